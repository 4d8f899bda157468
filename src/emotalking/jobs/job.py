"""One job: what it makes, how, and whether that is there already."""

import logging
import socket
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

from emotalking.errors import InputError, memory_full
from emotalking.io.reading import reason

_logger = logging.getLogger("emotalking")

_TIME = "%Y-%m-%d %H:%M:%S"

State = Literal["made", "kept", "failed"]


@dataclass(frozen=True)
class Job:
    """A job. It can be pickled, so its functions are those of modules, with their arguments (``functools.partial``).

    A job may be interrupted at any time and run again, here or on another machine that sees the same files: ``work``
    goes on from what it finds, and writes its result under another name first.
    """

    name: str
    """Unique among the jobs of a run."""
    output: Path
    """File or folder that it makes."""
    work: Callable[[], object]
    """Makes it. An InputError is a failure of this job alone, as is any other exception."""
    log: Path
    """File that the messages are appended to."""
    finished: Callable[[], bool] | None = None
    """True: the result of this very job is there, and ``work`` has nothing to do. It may raise as ``work``. None:
    ``work`` itself keeps what is finished."""


@dataclass(frozen=True)
class Outcome:
    """Outcome of a job."""

    name: str
    output: Path
    state: State
    """`made`, `kept` (it was finished before) or `failed`."""
    why: str = ""
    """Reason of a failure."""
    seconds: float = 0.0
    """Time of the last attempt."""
    again: bool = False
    """True if another attempt may succeed, later or elsewhere: memory was full, or its process or machine was lost."""


def attempt(job: Job) -> Outcome:
    """Run a job in this process, unless it is finished.

    Returns:
        Its outcome; no exception leaves this function except those that end a process, such as Ctrl-C.
    """
    began = time.perf_counter()
    state: State = "failed"
    why, full = "", False
    with _logged(job.log) as log:
        log.write(f"{time.strftime(_TIME)} {job.name}: begins on {socket.gethostname()}\n")
        try:
            if job.finished is not None and job.finished():
                state = "kept"
            else:
                job.work()
                state = "made"
        except InputError as error:
            why = str(error).rstrip(".")
        except Exception as error:
            full = memory_full(error) is not None
            file = f": {error.filename}" if isinstance(error, OSError) and error.filename else ""
            why = f"{memory_full(error)} is full" if full else f"{type(error).__name__}: {reason(error)}{file}"
            traceback.print_exc(file=log)
        outcome = Outcome(job.name, job.output, state, why, time.perf_counter() - began, full)
        _logger.info("%s", sentence(outcome))
    return outcome


def sentence(outcome: Outcome) -> str:
    """An outcome for people."""
    if outcome.state == "kept":
        return f"{outcome.name}: kept, finished before"
    after = f"{outcome.seconds:.0f} s"
    return f"{outcome.name}: {'finished in' if outcome.state == 'made' else 'failed after'} {after}" + (
        f" ({outcome.why})" if outcome.why else ""
    )


@contextmanager
def _logged(path: Path) -> Iterator[TextIO]:
    """Append the messages of this package to a file within the block; yields that file."""
    level = _logger.level
    with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
        handler = logging.StreamHandler(file)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", _TIME))
        _logger.addHandler(handler)
        _logger.setLevel(logging.INFO)
        try:
            yield file
        finally:
            _logger.setLevel(level)
            _logger.removeHandler(handler)


def by_name(paths: Iterable[Path], name: Callable[[Path], str]) -> dict[str, Path]:
    """Absolute paths by the names of their jobs.

    Raises:
        InputError: two have one name.
    """
    names: dict[str, Path] = {}
    for path in paths:
        if (own := name(path)) in names:
            raise InputError(f"{names[own]} and {path} have one name, '{own}': give them two result folders.")
        names[own] = path.absolute()
    return names
