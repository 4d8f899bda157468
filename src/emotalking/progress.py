"""Progress of long work: quiet in a program of one's own, bars and messages under the command line.

As a library, nothing is printed: messages go to the standard logger ``emotalking`` and progress to the callback of
:func:`on_progress`, if one is set.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.console import Console
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

T = TypeVar("T")
MESSAGE_S = 5.0
"""Seconds between messages about a transfer where no bar can be shown."""
ProgressCallback = Callable[[float, float | None, str], None]
"""Called with what is done, the total (None: unknown) and the description of a task, from any thread."""
console = Console(stderr=True)
_logger = logging.getLogger("emotalking")
_shown = False
_callback: ProgressCallback | None = None


class _ConsoleHandler(logging.Handler):
    """Print messages above the bars; a warning is yellow."""

    def emit(self, record: logging.LogRecord) -> None:
        warning = record.levelno >= logging.WARNING
        console.print(
            f"warning: {record.getMessage()}" if warning else record.getMessage(),
            style="yellow" if warning else None,
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


class _Bars(Progress):
    """A progress display that also tells the callback."""

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


def on_progress(callback: ProgressCallback | None) -> None:
    """Have ``callback`` told the progress of all long work from now on; None: nothing is."""
    global _callback  # noqa: PLW0603
    _callback = callback


@contextmanager
def shown() -> Iterator[None]:
    """Show bars (where standard error is a terminal) and log messages within the block, as the command line does."""
    global _shown  # noqa: PLW0603
    if _shown:
        yield
        return
    handler = _ConsoleHandler()
    level = _logger.level
    _logger.addHandler(handler)
    _logger.setLevel(logging.INFO)
    _shown = True
    try:
        yield
    finally:
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
    """A display of a transfer of ``total`` bytes, ``done`` of which are there; messages where there is no terminal.

    Yields:
        Function to call with each number of bytes that arrived.
    """
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    hidden = not (_shown and console.is_terminal)
    with _Bars(TextColumn("{task.description}"), *columns, console=console, disable=hidden) as progress:
        task = progress.add_task(description, total=total, completed=done)
        last = time.monotonic()

        def advance(count: int) -> None:
            nonlocal done, last
            done += count
            progress.advance(task, count)
            if hidden and time.monotonic() - last > MESSAGE_S:
                last = time.monotonic()
                _logger.info("%s: %.1f%s MB", description, done / 1e6, f" of {total / 1e6:.1f}" if total else "")

        yield advance
