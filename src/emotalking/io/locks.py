"""Locks between processes."""

import errno
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

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
        while not acquire(lock.fileno()):
            if not told:
                waiting()
                told = True
            time.sleep(PAUSE)
        yield


def acquire(descriptor: int, *, shared: bool = False) -> bool:
    """Lock an open file or folder, if no other process holds it; True where a system knows no locks.

    Args:
        descriptor: of the open file.
        shared: several processes may hold it so at the same time.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except ImportError:
        return True
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN, errno.EDEADLK)
    return True
