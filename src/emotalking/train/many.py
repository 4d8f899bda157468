"""Train many subjects on many devices: an avatar of each, and one page about all of them."""

import logging
import math
import shlex
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from rich.progress import Progress, TaskID

from emotalking.errors import UserError
from emotalking.io.reading import reading
from emotalking.io.settings import override
from emotalking.progress import bar
from emotalking.report import Link, Page, Table
from emotalking.train.callbacks.log import LOG, Row, of_kind, preview_image
from emotalking.train.callbacks.report import PAGE, STRIPS
from emotalking.train.callbacks.rows import read_log
from emotalking.train.presets import preset
from emotalking.train.run import is_up_to_date
from emotalking.train.workers import Runner, WorkerPool, train_command

_logger = logging.getLogger(__name__)

_HEADER = (
    "subject",
    "avatar",
    "PSNR of held-out frames [dB]",
    "Gaussians of the face",
    "of the mouth",
    "stages [s]",
)
INDEX = "index.html"
"""Name of the page about all avatars."""


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


def train_many(
    subjects: Sequence[Path],
    folder: Path,
    preset_name: str,
    overrides: list[str],
    devices: Sequence[str],
    *,
    run: Runner | None = None,
) -> TrainManyResult:
    """Train an avatar of every subject; finished avatars are kept, and started ones are resumed.

    Args:
        subjects: subject folders.
        folder: gets ``<name>.safetensors``, its run folder and ``<name>.log`` of each, and :data:`INDEX`.
        devices: each works on one subject at a time, in a process of its own.
        run: runs a command; None: as a process.

    Raises:
        UserError: two subjects of one name, or a setting that cannot be; nothing is begun then.
    """
    config = override(preset(preset_name), overrides)
    names = _names(subjects)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: give the name of a folder.")
    folder.mkdir(parents=True, exist_ok=True)
    if len(devices) > len(subjects):
        idle = ", ".join(devices[len(subjects) :])
        _logger.info("left idle: %s; there are more devices than subjects", idle)
    pool = WorkerPool(devices[: len(subjects)])

    with bar() as progress:
        bars = _Bars(progress, config.iterations, len(names))

        def work(name: str, device: str) -> SubjectResult:
            avatar = folder / f"{name}.safetensors"
            log = folder / f"{name}.log"
            subject = names[name]
            try:
                if avatar.exists():
                    return _kept(avatar, subject, preset_name, overrides)
                _logger.info("%s: training on %s (log: %s)", name, device, log)
                began = time.perf_counter()
                bars.begin(name, device, avatar)
                command = train_command(subject, avatar, preset_name, overrides)
                failed = (run or pool.run)(command, device, log)
                took = time.perf_counter() - began
                _logger.info("%s: %s %.0f s", name, "trained in" if failed is None else "stopped after", took)
                return _known(avatar, "trained") if failed is None else _known(avatar, "failed", failed)
            finally:
                bars.end(name)

        avatars = pool.spread(list(names), work, bars.tick)
    result = TrainManyResult(avatars, folder / INDEX)
    make_page(result, preset_name, overrides).write(result.page)
    return result


def _names(subjects: Sequence[Path]) -> dict[str, Path]:
    """Subject folders by name."""
    names: dict[str, Path] = {}
    for subject in subjects:
        name = subject.resolve().name
        if name in names:
            raise UserError(f"{names[name]} and {subject} have one name, '{name}': train them into two folders.")
        names[name] = subject
    return names


def _kept(avatar: Path, subject: Path, preset_name: str, overrides: list[str]) -> SubjectResult:
    """An avatar that is there already."""
    try:
        if is_up_to_date(avatar, subject, preset_name, overrides):
            _logger.info("%s: %s is kept", avatar.stem, avatar.name)
            return _known(avatar, "kept")
        why = f"{avatar} was trained with other settings: remove it, or give another folder"
    except UserError as error:
        why = str(error).rstrip(".")
    _logger.info("%s: failed", avatar.stem)
    return SubjectResult(avatar, "failed", why)


def _known(avatar: Path, outcome: str, why: str = "") -> SubjectResult:
    """Result with the rows of its run's record."""
    result = SubjectResult(avatar, outcome, why)
    record = result.run_folder / LOG
    try:
        with reading(record, "is no whole record of a run", "train again"):
            rows = read_log(record)
            known = SubjectResult(avatar, outcome, why, rows)
            if of_kind(rows, "run") and known.row:  # all that the page shows of it
                return known
    except UserError:  # An avatar may have been moved here without it.
        pass
    return result


def make_page(result: TrainManyResult, preset_name: str, overrides: list[str]) -> Page:
    """The page: verdict, table and the last preview of each avatar, with links to their own pages."""
    chosen = f"preset {preset_name}" + "".join(f" --set {shlex.quote(setting)}" for setting in overrides)
    page = Page("Avatars", f"{chosen}, {time.strftime('%Y-%m-%d %H:%M')}")
    good, total = len(result.avatars) - len(result.failures), len(result.avatars)
    page.verdict(f"{good} of {total} subjects have an avatar.", "good" if good == total else "warn")
    for name, why in result.failures.items():
        page.verdict(f"{name}: {why}.", "bad")
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


class _Bars:
    """Progress of all subjects and of each that is being trained, read from their records."""

    def __init__(self, progress: Progress, iterations: int, subjects: int) -> None:
        self._progress, self._iterations = progress, iterations
        self._all = progress.add_task("train subjects", total=subjects, note="")
        self._running: dict[str, tuple[TaskID, Path, float]] = {}

    def begin(self, name: str, device: str, avatar: Path) -> None:
        """Add the bar of a subject."""
        task = self._progress.add_task(f"{name} ({device})", total=self._iterations, note="begins")
        self._running[name] = task, avatar.with_name(avatar.name + ".run") / LOG, time.time()

    def end(self, name: str) -> None:
        """Remove the bar of a subject."""
        if name in self._running:
            self._progress.remove_task(self._running.pop(name)[0])
        self._progress.advance(self._all)

    def tick(self) -> None:
        """Update all bars."""
        if self._progress.disable:
            return
        for task, path, began in list(self._running.values()):
            if not path.exists() or path.stat().st_mtime < began:  # of an earlier run
                continue
            with suppress(UserError):  # It may be being written.
                steps = {row["stage"]: row["iteration"] for row in of_kind(read_log(path), "step")}
                done = sum(steps.values())
                note = "finishes" if done == self._iterations else list(steps)[-1] if steps else "begins"
                with suppress(KeyError):  # It may have ended, and its bar with it.
                    self._progress.update(task, completed=done, note=note)
