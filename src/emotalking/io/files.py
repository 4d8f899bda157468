"""Atomic file writes, and locks on folders."""

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from emotalking.errors import InputError
from emotalking.io.locks import acquire
from emotalking.io.reading import reason

_END = re.compile(r"\.[0-9a-f]{8}\.part")
"""End of a temporary file's name."""
_LONGEST_NAME = 200
"""Bytes of a file's name that its temporary file can take over; file systems allow 255 in all."""
_WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""Errors that only a write can end with."""


Finish = Callable[[Path, Path, Path], bool]
"""Last step of a file: called with its finished content, an empty file beside it, and the name it is going to have.

True: what was written to the second file takes the first one's place."""


class CannotWriteError(InputError, OSError):
    """A file cannot be written; ``errno`` and ``strerror`` are the operating system's."""

    def __init__(self, path: Path, error: OSError) -> None:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free some space or choose another place" if full else "choose another place"
        super().__init__(f"{path} cannot be written ({reason(error)}): {remedy}.")
        self.errno, self.strerror = error.errno, reason(error)

    def __str__(self) -> str:
        return str(self.args[0])


def is_special(path: Path) -> bool:
    """True for a device or a pipe, which is written to and never replaced (``/dev/stdout`` may also be a file)."""
    return path.exists() and not path.is_dir() and (not path.is_file() or path.absolute().parts[:2] == ("/", "dev"))


def written_through(path: Path) -> Path:
    """What is written when ``path`` is: the target of a symbolic link, which may not be there yet.

    Raises:
        OSError: the link leads to itself.
    """
    if not path.is_symlink() or is_special(path):
        return path
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return target


def _prefix(path: Path) -> str:
    """First letters of the names of the temporary files of ``path``."""
    name = os.fsencode(path.name)
    return f".{path.name}" if len(name) <= _LONGEST_NAME else f".{hashlib.sha256(name).hexdigest()[:24]}"


def _create(path: Path) -> tuple[Path, int]:
    """A new empty file beside ``path`` (its folder is created if missing), and the descriptor that locks it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        scratch = path.parent / f"{_prefix(path)}.{secrets.token_hex(4)}.part"
        try:
            # Any new file's permissions; tempfile.mkstemp would make it private.
            held = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            continue
        acquire(held)
        return scratch, held


@contextmanager
def _scratch(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path``, locked, and removed at the end."""
    scratch, held = _create(path)
    try:
        if sys.platform == "win32":  # which does not rename an open file
            os.close(held)
        yield scratch
    finally:
        scratch.unlink(missing_ok=True)
        if sys.platform != "win32":
            os.close(held)


def remove_stale(path: Path) -> None:
    """Remove temporary files that killed processes left of ``path``; those that a process is writing are kept."""
    with suppress(OSError):
        begin = _prefix(path)
        for entry in os.scandir(path.parent):
            if entry.name.startswith(begin) and _END.fullmatch(entry.name[len(begin) :]):
                _remove_if_stale(Path(entry.path))


def remove_stale_within(folder: Path) -> None:
    """Remove temporary files that killed processes left in a folder and the folders in it."""
    for scratch in (*folder.glob(".*.part"), *folder.glob("*/.*.part")):
        if _END.search(scratch.name):
            _remove_if_stale(scratch)


def _remove_if_stale(scratch: Path) -> None:
    with suppress(OSError):
        if sys.platform == "win32":  # which refuses to remove an open file
            scratch.unlink()
            return
        held = os.open(scratch, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if acquire(held):
                scratch.unlink()
        finally:
            os.close(held)


@contextmanager
def replacing(path: Path, finish: Finish | None = None) -> Iterator[Path]:
    """A temporary file to write to: it becomes ``path`` when the block ends without an error, else it is removed.

    A symbolic link stays and its target is replaced; a device or pipe is written to; permissions of a file that is
    replaced stay as they are.

    Args:
        path: the file.
        finish: last step, before the file gets its name.

    Raises:
        CannotWriteError: the disk is full, a folder is read-only, a name is too long, ...
    """
    path = Path(path)
    with _explained(path, everything=True):
        target = written_through(path)
        if target.is_dir():
            raise InputError(f"{path} is a folder: give the name of a file.")
        mode = target.stat().st_mode if target.is_file() else None
    if is_special(path):
        with TemporaryDirectory(prefix="emotalking-") as folder, _explained(path):
            scratch, other = Path(folder) / "file", Path(folder) / "finished"
            scratch.touch()
            yield scratch
            if finish is not None and finish(scratch, other, path):
                scratch = other
            with scratch.open("rb") as source, target.open("wb") as output:
                shutil.copyfileobj(source, output)
        return
    with ExitStack() as stack:
        with _explained(path, everything=True):
            scratch = stack.enter_context(_scratch(target))
        mode = os.stat(scratch).st_mode if mode is None else mode
        with _explained(path, scratch):
            yield scratch
        with _explained(path, everything=True):
            if finish is not None:
                other = stack.enter_context(_scratch(target))
                scratch = other if finish(scratch, other, path) else scratch
            os.chmod(scratch, stat.S_IMODE(mode))  # safetensors 0.8 puts a private file of its own in its place
            os.replace(scratch, target)


def finish_file(path: Path, finish: Finish) -> None:
    """Take the last step of a file that was written under its own name.

    Raises:
        CannotWriteError: as :func:`replacing`; the file is as it was.
    """
    with _explained(path, everything=True), _scratch(path) as other:
        if finish(path, other, path):
            os.chmod(other, stat.S_IMODE(path.stat().st_mode))
            os.replace(other, path)


@contextmanager
def _explained(path: Path, scratch: Path | None = None, *, everything: bool = False) -> Iterator[None]:
    """Turn errors of writing ``path`` into a sentence; errors of reading something else for it pass."""
    try:
        yield
    except OSError as error:
        mine = scratch is not None and str(error.filename or "").endswith(scratch.name)
        if isinstance(error, InputError) or not (everything or mine or error.errno in _WRITE_ERRORS):
            raise
        raise CannotWriteError(path, error) from error


def write_bytes(path: Path, data: bytes, finish: Finish | None = None) -> None:
    """Write ``data`` to ``path`` atomically; ``finish``: as in :func:`replacing`.

    Raises:
        CannotWriteError: as :func:`replacing`.
    """
    with replacing(path, finish) as scratch:
        scratch.write_bytes(data)


def reserve(path: Path, size: int) -> None:
    """Make sure that a file of ``size`` bytes finds its space: a sparse file that is mapped ends in SIGBUS otherwise.

    Raises:
        OSError: the disk is full.
    """
    with path.open("r+b") as file:
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(file.fileno(), 0, max(size, 1))
                return
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                    raise
        free = shutil.disk_usage(path.parent).free
        if free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def need_space(folder: Path, size: int) -> None:
    """Refuse to begin a work of ``size`` bytes in ``folder`` where the disk has less.

    Raises:
        CannotWriteError: the disk has not so much space.
    """
    free = shutil.disk_usage(folder).free
    if free < size:
        needed = f"{os.strerror(errno.ENOSPC)}: about {size / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free"
        raise CannotWriteError(folder, OSError(errno.ENOSPC, needed))


@contextmanager
def holding(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a folder (made if missing, and removed again where it stays empty) against other commands.

    The lock ends with the process, however that ends. Where the file system knows no locks, nothing is held.

    Args:
        folder: the folder.
        shared: others may hold it at the same time, if they only read it as well.

    Raises:
        InputError: another command holds the folder, or it cannot be made.
    """
    with _explained(folder, everything=True):
        made = [one for one in (folder, *folder.parents) if not one.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    held = None
    try:
        with suppress(OSError):  # a folder that may not be read
            held = _open_folder(folder)
        if held is not None and not acquire(held, shared=shared):
            raise InputError(f"{folder} is in use by another command: wait until that ends, or choose another folder.")
        yield
    finally:
        if held is not None:
            os.close(held)
        with suppress(OSError):
            for one in made:
                one.rmdir()


def _open_folder(folder: Path) -> int:
    if sys.platform == "win32":  # which opens no folders
        return os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)
    return os.open(folder, os.O_RDONLY)
