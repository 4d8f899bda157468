"""Work of the tests' jobs: functions of a module, as Ray's processes import them."""

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from emotalking.errors import InputError
from emotalking.jobs.job import Job
from emotalking.progress import track


def job(folder: Path, name: str, function: Callable[..., None], *arguments: object) -> Job:
    """A job whose output is the file ``name``."""
    output = folder / name
    return Job(name, output, partial(function, output, *arguments), folder / f"{name}.log", output.exists)


def write(path: Path, value: int = 0) -> None:
    """Make the file, or go on with what an interrupted attempt left of it."""
    interrupted = path.with_suffix(".partial")
    begun = interrupted.read_text() if interrupted.exists() else ""
    path.write_text(f"{begun}{value}")
    with path.with_suffix(".times").open("a") as times:
        times.write("made\n")


def refuse(path: Path) -> None:
    """What a user can fix."""
    raise InputError(f"{path} lacks a table.")


def break_down(path: Path) -> None:
    """A bug."""
    raise ZeroDivisionError("division by zero")


def fill_memory(path: Path, times: int) -> None:
    """Have no memory, so many times."""
    tried = path.with_suffix(".tried")
    with tried.open("a") as file:
        file.write("x")
    if len(tried.read_text()) <= times:
        raise MemoryError
    write(path)


def die_once(path: Path) -> None:
    """Leave a checkpoint, and be killed as by a system without memory; then finish."""
    interrupted = path.with_suffix(".partial")
    if not interrupted.exists():
        interrupted.write_text("resumed ")
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, 1)


def wait_for(path: Path, gate: Path) -> None:
    """Begin, and finish when the gate is there; save where interrupted."""
    path.with_suffix(f".{os.getpid()}.began").touch()
    try:
        for _ in track(range(60_000), "waiting"):
            if gate.exists():
                break
            time.sleep(0.01)
        write(path)
    except KeyboardInterrupt:
        path.with_suffix(".saved").touch()
        raise
