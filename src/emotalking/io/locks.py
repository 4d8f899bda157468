"""Locks between processes."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

PAUSE = 0.1
"""Seconds between two attempts."""


@contextmanager
def locked(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock file ``path`` (created if missing) within the block; it is free when its process ends, however.

    Args:
        path: lock file.
        waiting: called once if another process holds it.

    Raises:
        OSError: the file cannot be created.
    """
    with path.open("a") as lock:
        told = False
        while not _acquire(lock):
            if not told:
                waiting()
                told = True
            time.sleep(PAUSE)
        yield


def _acquire(lock: IO[str]) -> bool:
    """True if ``lock`` is this process's now."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
