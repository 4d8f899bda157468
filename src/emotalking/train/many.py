"""Train many subjects: an avatar of each, and one page about all of them."""

import math
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from emotalking.errors import InputError
from emotalking.io.reading import reading
from emotalking.io.settings import override
from emotalking.jobs.engine import Engine
from emotalking.jobs.job import Job, State, by_name
from emotalking.jobs.page import INDEX, verdicts
from emotalking.models.avatar_file import read_avatar_metadata
from emotalking.provenance.consent import Consent, consent_of, read_consents
from emotalking.report import Link, Page, Table
from emotalking.train.callbacks.log import LOG, Row, of_kind, preview_image
from emotalking.train.callbacks.report import PAGE, STRIPS
from emotalking.train.callbacks.rows import read_log
from emotalking.train.presets import preset
from emotalking.train.run import is_up_to_date, train

_HEADER = (
    "subject",
    "avatar",
    "PSNR of held-out frames [dB]",
    "Gaussians of the face",
    "of the mouth",
    "stages [s]",
)
_WORDS: dict[State, str] = {"made": "trained", "kept": "kept", "failed": "failed"}


@dataclass(frozen=True)
class SubjectResult:
    """Outcome of one subject."""

    avatar: Path
    """Its file, if it is there."""
    outcome: str
    """`trained`, `kept` or `failed`."""
    why: str = ""
    """Reason of a failure."""
    record: list[Row] = field(default_factory=list, repr=False)
    """Rows of its run (:mod:`emotalking.train.callbacks.log`); empty if these are missing."""

    @property
    def run_folder(self) -> Path:
        """The run folder."""
        return self.avatar.with_name(self.avatar.name + ".run")

    @property
    def name(self) -> str:
        """Name of the subject."""
        return self.avatar.stem

    @property
    def psnr(self) -> float:
        """PSNR of the preview frames at the end [dB] (:mod:`emotalking.train.callbacks.preview`); NaN: not known."""
        previews = [row for row in of_kind(self.record, "frames") if "psnr" in row]
        return previews[-1]["psnr"] if previews else math.nan

    @property
    def seconds(self) -> float:
        """Time of the stages."""
        steps = {row["stage"]: row for row in of_kind(self.record, "step")}
        return sum(row["seconds"] for row in steps.values())

    @property
    def row(self) -> tuple[str, ...]:
        """Row of :attr:`TrainManyResult.table`."""
        counts: dict[str, int] = {}
        for step in of_kind(self.record, "step"):
            counts |= step["gaussians"]
        held_out = of_kind(self.record, "run")[-1]["frames"]["held_out"] if self.record else 0
        there = not math.isnan(self.psnr)
        return (
            self.name,
            self.outcome,
            f"{self.psnr:.2f}" if there and held_out else "none held out" if there else "–",
            str(counts.get("face", "–")),
            str(counts.get("mouth", "–")),
            f"{self.seconds:.0f}" if self.record else "–",
        )


@dataclass(frozen=True)
class TrainManyResult:
    """Outcomes of all subjects."""

    avatars: list[SubjectResult]
    page: Path
    """The page about all of them."""

    @property
    def table(self) -> Table:
        """A row of metrics for each subject."""
        return Table(_HEADER, [result.row for result in self.avatars])

    @property
    def failures(self) -> dict[str, str]:
        """Reasons by the subject's name."""
        return {result.name: result.why for result in self.avatars if result.outcome == "failed"}


def train_command(subject: Path, avatar: Path, preset_name: str, overrides: Sequence[str]) -> str:
    """Command line that makes one avatar by itself; it is stored in what is made."""
    changed = [word for setting in overrides for word in ("--set", setting)]
    return shlex.join(["emotalking", "train", str(subject), "-o", str(avatar), "--preset", preset_name, *changed])


def train_many(
    subjects: Sequence[Path],
    folder: Path,
    preset_name: str,
    overrides: list[str],
    engine: Engine,
    consent: str | Path | None = None,
) -> TrainManyResult:
    """Train an avatar of every subject; finished avatars are kept, and started ones are resumed.

    Args:
        subjects: subject folders.
        folder: gets ``<name>.safetensors``, its run folder and ``<name>.log`` of each, and :data:`INDEX`.
        engine: runs the trainings.
        consent: statements of the people shown (:func:`~emotalking.provenance.consent.read_consents`).

    Raises:
        InputError: two subjects of one name, a missing statement, or a setting that cannot be; nothing is begun then.
    """
    override(preset(preset_name), overrides)
    names = by_name(subjects, lambda subject: subject.resolve().name)
    agreed = {} if consent is None else read_consents(consent, names)
    folder = folder.absolute()
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: give the name of a folder.")
    folder.mkdir(parents=True, exist_ok=True)
    jobs = []
    for name, subject in names.items():
        avatar = folder / f"{name}.safetensors"
        command = train_command(subject, avatar, preset_name, overrides)
        work = partial(
            train, subject, avatar, preset_name, engine.device, overrides, command=command, consent=agreed.get(name)
        )
        finished = partial(_is_finished, avatar, subject, preset_name, overrides, agreed.get(name))
        jobs.append(Job(name, avatar, work, folder / f"{name}.log", finished))
    avatars = [with_record(one.output, _WORDS[one.state], one.why) for one in engine.run(jobs)]
    result = TrainManyResult(avatars, folder / INDEX)
    make_page(result, preset_name, overrides).write(result.page)
    return result


def _is_finished(avatar: Path, subject: Path, preset_name: str, overrides: list[str], consent: Consent | None) -> bool:
    """True if the avatar is there; InputError if it was made otherwise."""
    if not avatar.exists():
        return False
    if not is_up_to_date(avatar, subject, preset_name, overrides):
        raise InputError(f"{avatar} was trained with other settings: remove it, or give another folder.")
    if consent is not None:
        recorded = consent_of(read_avatar_metadata(avatar))
        if recorded is None or recorded.sha256 != consent.sha256:
            raise InputError(
                f"{avatar} carries another statement of consent, or none: remove it, or give another folder."
            )
    return True


def with_record(avatar: Path, outcome: str, why: str = "") -> SubjectResult:
    """Result with the rows of its run's record."""
    result = SubjectResult(avatar, outcome, why)
    record = result.run_folder / LOG
    try:
        with reading(record, "is no whole record of a run", "train again"):
            rows = read_log(record)
            known = SubjectResult(avatar, outcome, why, rows)
            if of_kind(rows, "run") and known.row:  # all that the page shows of it
                return known
    except InputError:  # An avatar may have been moved here without it.
        pass
    return result


def make_page(result: TrainManyResult, preset_name: str, overrides: list[str]) -> Page:
    """The page: verdict, table and the last preview of each avatar, with links to their own pages."""
    chosen = f"preset {preset_name}" + "".join(f" --set {shlex.quote(setting)}" for setting in overrides)
    page = Page("Avatars", f"{chosen}, {time.strftime('%Y-%m-%d %H:%M')}")
    verdicts(page, result.failures, len(result.avatars), "subjects have an avatar")
    rows = []
    for subject in result.avatars:
        own = subject.run_folder / PAGE
        linked = Link(subject.name, own.relative_to(result.page.parent)) if own.exists() else subject.name
        rows.append((linked, *subject.row[1:]))
    page.table(_HEADER, rows)
    page.text("PSNR: of the few held-out frames that training previews; 'emotalking evaluate' measures all of them.")
    for subject in result.avatars:
        previews = of_kind(subject.record, "frames")
        image = subject.run_folder / preview_image(previews[-1]) if previews else None
        if image is not None and image.is_file():
            stage = previews[-1]["stage"]
            page.heading(subject.name)
            page.image(image, f"{stage}: {STRIPS.get(stage, '')}")
    return page
