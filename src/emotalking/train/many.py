"""Many subjects over many devices: an avatar of each, and one page about all of them."""

import logging
import math
import shlex
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from rich.progress import Progress, TaskID

from emotalking.errors import UserError
from emotalking.io.images import decode_image
from emotalking.io.settings import override
from emotalking.progress import bar
from emotalking.report import Link, Page
from emotalking.train.callbacks.log import LOG, Row, of_kind, read_log
from emotalking.train.callbacks.page import PAGE, STRIPS
from emotalking.train.presets import preset
from emotalking.train.run import is_up_to_date
from emotalking.train.workers import Runner, WorkerPool

_logger = logging.getLogger(__name__)

INDEX = "index.html"
"""Name of the page about all avatars."""


@dataclass(frozen=True)
class Made:
    """What became of one subject."""

    avatar: Path
    """Its file, if it is there."""
    outcome: str
    """`trained`, `kept` or `failed`."""
    why: str = ""
    """It failed."""
    record: list[Row] = field(default_factory=list, repr=False)
    """Of the run that made it (:mod:`emotalking.train.callbacks.log`); empty if that is not there."""

    @property
    def run_folder(self) -> Path:
        """Where its run keeps what it knows."""
        return self.avatar.with_name(self.avatar.name + ".run")

    @property
    def name(self) -> str:
        """The subject's."""
        return self.avatar.stem

    @property
    def psnr(self) -> float:
        """Of the run's fixed frames at its end, dB (:mod:`emotalking.train.callbacks.preview`); NaN: not known."""
        looks = [row for row in of_kind(self.record, "frames") if "psnr" in row]
        return looks[-1]["psnr"] if looks else math.nan

    @property
    def seconds(self) -> float:
        """That the stages took."""
        steps = {row["stage"]: row for row in of_kind(self.record, "step")}
        return sum(row["seconds"] for row in steps.values())

    @property
    def row(self) -> tuple[str, ...]:
        """Of a table (:attr:`Many.HEADER`)."""
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
class Many:
    """What became of all of them."""

    HEADER: ClassVar[tuple[str, ...]] = (
        "subject",
        "avatar",
        "PSNR of held-out frames [dB]",
        "Gaussians of the face",
        "of the mouth",
        "stages [s]",
    )
    avatars: list[Made]
    page: Path

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """A table under :attr:`HEADER`."""
        return [made.row for made in self.avatars]

    @property
    def failures(self) -> dict[str, str]:
        """Why, by the subject's name."""
        return {made.name: made.why for made in self.avatars if made.outcome == "failed"}


def train_many(
    subjects: Sequence[Path],
    folder: Path,
    preset_name: str,
    overrides: list[str],
    devices: Sequence[str],
    *,
    run: Runner | None = None,
) -> Many:
    """Train an avatar of every subject; what an earlier call finished is kept, what it began is gone on with.

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
    settings = [word for setting in overrides for word in ("--set", setting)]

    with bar() as progress:
        bars = _Bars(progress, config.iterations, len(names))

        def work(name: str, device: str) -> Made:
            avatar, log, subject = folder / f"{name}.safetensors", folder / f"{name}.log", names[name]
            try:
                if avatar.exists():
                    return _kept(avatar, subject, preset_name, overrides)
                _logger.info("%s: training on %s (log: %s)", name, device, log)
                began = time.perf_counter()
                bars.begin(name, device, avatar)
                command = ["train", str(subject), "-o", str(avatar), "--preset", preset_name, *settings]
                failed = (run or pool.run)(command, device, log)
                took = time.perf_counter() - began
                _logger.info("%s: %s %.0f s", name, "trained in" if failed is None else "stopped after", took)
                return _known(avatar, "trained") if failed is None else _known(avatar, "failed", failed)
            finally:
                bars.end(name)

        avatars = pool.spread(list(names), work, bars.tick)
    made = Many(avatars, folder / INDEX)
    make_page(made, preset_name, overrides).write(made.page)
    return made


def _names(subjects: Sequence[Path]) -> dict[str, Path]:
    """Subject folders by name."""
    names: dict[str, Path] = {}
    for subject in subjects:
        name = subject.resolve().name
        if name in names:
            raise UserError(f"{names[name]} and {subject} have one name, '{name}': train them into two folders.")
        names[name] = subject
    return names


def _kept(avatar: Path, subject: Path, preset_name: str, overrides: list[str]) -> Made:
    """An avatar that is there already."""
    try:
        if is_up_to_date(avatar, subject, preset_name, overrides):
            _logger.info("%s: %s is kept", avatar.stem, avatar.name)
            return _known(avatar, "kept")
        why = f"{avatar} was trained with other settings: remove it, or give another folder"
    except UserError as error:
        why = str(error).rstrip(".")
    _logger.info("%s: failed", avatar.stem)
    return Made(avatar, "failed", why)


def _known(avatar: Path, outcome: str, why: str = "") -> Made:
    """With what its run's record says."""
    made = Made(avatar, outcome, why)
    try:
        rows = read_log(made.run_folder / LOG)
    except UserError:  # An avatar may have been moved here without it.
        return made
    return Made(avatar, outcome, why, rows) if of_kind(rows, "run") else made


def make_page(many: Many, preset_name: str, overrides: list[str]) -> Page:
    """Verdict, table and the last picture of held-out frames of each avatar, with links to their own pages."""
    chosen = f"preset {preset_name}" + "".join(f" --set {shlex.quote(setting)}" for setting in overrides)
    page = Page("Avatars", f"{chosen}, {time.strftime('%Y-%m-%d %H:%M')}")
    good, total = len(many.avatars) - len(many.failures), len(many.avatars)
    page.verdict(f"{good} of {total} subjects have an avatar.", "good" if good == total else "warn")
    for name, why in many.failures.items():
        page.verdict(f"{name}: {why}.", "bad")
    folder = many.page.parent
    rows = []
    for made in many.avatars:
        own = made.run_folder / PAGE
        linked = Link(made.name, own.relative_to(folder)) if own.exists() else made.name
        rows.append((linked, *made.row[1:]))
    page.table(many.HEADER, rows)
    page.text("PSNR: of the few held-out frames that training looks at; 'emotalking evaluate' measures all of them.")
    for made in many.avatars:
        looks = of_kind(made.record, "frames")
        picture = made.run_folder / looks[-1]["picture"] if looks else None
        image = decode_image(picture.read_bytes()) if picture is not None and picture.exists() else None
        if image is not None:
            page.heading(made.name)
            last = looks[-1]["stage"]
            page.image(image, f"{last}: {STRIPS[last]}")
    return page


class _Bars:
    """How far all are, and each that is being trained; read from their records."""

    def __init__(self, progress: Progress, iterations: int, subjects: int) -> None:
        self._progress, self._iterations = progress, iterations
        self._all = progress.add_task("train subjects", total=subjects, note="")
        self._running: dict[str, tuple[TaskID, Path, float]] = {}

    def begin(self, name: str, device: str, avatar: Path) -> None:
        """One is trained from now on."""
        task = self._progress.add_task(f"{name} ({device})", total=self._iterations, note="begins")
        self._running[name] = task, avatar.with_name(avatar.name + ".run") / LOG, time.time()

    def end(self, name: str) -> None:
        """One is trained, or will not be."""
        if name in self._running:
            self._progress.remove_task(self._running.pop(name)[0])
        self._progress.advance(self._all)

    def tick(self) -> None:
        """Look again."""
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
