"""Progress of long work: quiet in a program of one's own, bars and messages under the command line.

As a library, nothing is printed: messages go to the standard logger ``emotalking`` and progress to the callback of
:func:`on_progress`, if one is set. The command line is never silent for long: where no bar is drawn (into a file, or
while something is loaded), a thread prints a line with what goes on.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.segment import Segment

from emotalking.errors import printable

T = TypeVar("T")
ProgressCallback = Callable[[float, float | None, str], None]
"""Called with what is done, the total (None: unknown) and the description of a task, from any thread."""
FIRST_WORDS_S, SILENCE_S = 1.5, 3.0
"""Seconds without a word until the command line tells what it does: at the beginning, and later."""
_TICK_S = 0.25


class SafeConsole(Console):
    """A console on which no text that is shown can control the terminal."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What is drawn, escaped."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


console = SafeConsole(stderr=True)
_logger = logging.getLogger("emotalking")
_shown = False
_callback: ProgressCallback | None = None
_running: "list[_Bars]" = []
_doing: list[tuple[str, float]] = []
"""What goes on without a bar, innermost last, and since when."""
_said_at = 0.0
_asking = False


class _ConsoleHandler(logging.Handler):
    """Print messages above the bars; a warning is yellow."""

    def emit(self, record: logging.LogRecord) -> None:
        _note_output()
        warning = record.levelno >= logging.WARNING
        console.print(
            f"warning: {record.getMessage()}" if warning else record.getMessage(),
            style="yellow" if warning else None,
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


class _Bars(Progress):
    """A progress display that also tells the callback, and what goes on."""

    def start(self) -> None:
        _running.append(self)
        super().start()

    def stop(self) -> None:
        super().stop()
        if self in _running:
            _running.remove(self)
            _note_output()

    def amount(self, value: float | int) -> str:
        """A task's count, in words."""
        return f"{value:g}"

    def words(self) -> str:
        """The task at work, in words; empty if there is none."""
        open_tasks = [task for task in self.tasks if not task.finished]
        if not open_tasks:
            return ""
        task = open_tasks[-1]
        count = f" {self.amount(task.completed)}" + ("" if task.total is None else f"/{self.amount(task.total)}")
        note = f", {task.fields['note']}" if task.fields.get("note") else ""
        return f"{task.description}{count} ({task.elapsed or 0.0:.0f} s{note})"

    def update(self, task_id: TaskID, **changes: Any) -> None:
        super().update(task_id, **changes)
        self._tell(task_id)

    def advance(self, task_id: TaskID, advance: float | int = 1) -> None:
        super().advance(task_id, advance)
        self._tell(task_id)

    def _tell(self, task_id: TaskID) -> None:
        task = self._tasks.get(task_id)
        if _callback is not None and task is not None:
            _callback(task.completed, task.total, task.description)


class _ByteBars(_Bars):
    """The same for transfers."""

    def amount(self, value: float | int) -> str:
        return f"{value / 1e6:.1f} MB"


def on_progress(callback: ProgressCallback | None) -> None:
    """Have ``callback`` told the progress of all long work from now on; None: nothing is."""
    global _callback  # noqa: PLW0603
    _callback = callback


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Name what goes on within the block, for work without a bar, such as "loading the networks"."""
    _doing.append((what, time.monotonic()))
    try:
        yield
    finally:
        _doing.pop()


@contextmanager
def asking() -> Iterator[None]:
    """Print nothing unasked within the block, in which the user answers a question."""
    global _asking  # noqa: PLW0603
    _asking = True
    try:
        yield
    finally:
        _asking = False
        _note_output()


def _note_output() -> None:
    global _said_at  # noqa: PLW0603
    _said_at = time.monotonic()


def _words(begun: float) -> str:
    """What goes on, in one line; ``begun``: when the command did."""
    for bars in reversed(_running):
        if words := bars.words():
            return words
    what, since = _doing[-1] if _doing else ("at work" if _said_at > begun else "starting", begun)
    return f"{what} ({time.monotonic() - since:.0f} s)"


def _break_silence(ended: threading.Event) -> None:
    """Print a line whenever nothing has been printed for too long, until ``ended``."""
    begun, patience = time.monotonic(), FIRST_WORDS_S
    while not ended.wait(_TICK_S):
        drawn = console.is_terminal and any(bars.words() for bars in _running)
        if drawn or _asking:
            _note_output()
        elif time.monotonic() - max(_said_at, begun) > patience:
            console.print(_words(begun), style="dim", highlight=False, markup=False, soft_wrap=True)
            _note_output()
        if _said_at > begun:
            patience = SILENCE_S


@contextmanager
def shown(*, never_silent: bool = False) -> Iterator[None]:
    """Show bars (where standard error is a terminal) and log messages within the block, as the command line does.

    Args:
        never_silent: print what goes on where neither says anything for :data:`SILENCE_S`.
    """
    global _shown  # noqa: PLW0603
    if _shown:
        yield
        return
    ended = threading.Event()
    if never_silent:
        threading.Thread(target=_break_silence, args=(ended,), daemon=True).start()
    handler = _ConsoleHandler()
    level = _logger.level
    _logger.addHandler(handler)
    _logger.setLevel(logging.INFO)
    _shown = True
    try:
        yield
    finally:
        ended.set()
        _shown = False
        _logger.setLevel(level)
        _logger.removeHandler(handler)


def bar() -> Progress:
    """A progress display (use as a context manager) in the one style; hidden unless :func:`shown`."""
    return _Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=not (_shown and console.is_terminal),
    )


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield ``items`` while a bar named ``description`` advances; ``total`` defaults to ``len(items)``."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with bar() as progress:
        task = progress.add_task(description, total=total, note="")
        for item in items:
            yield item
            progress.advance(task)


@contextmanager
def byte_bar(description: str, total: int | None, done: int) -> Iterator[Callable[[int], None]]:
    """A display of a transfer of ``total`` bytes, ``done`` of which are there.

    Yields:
        Function to call with each number of bytes that arrived.
    """
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    hidden = not (_shown and console.is_terminal)
    with _ByteBars(TextColumn("{task.description}"), *columns, console=console, disable=hidden) as progress:
        task = progress.add_task(description, total=total, completed=done)
        yield lambda count: progress.advance(task, count)
