"""Atomic file writes."""

import glob
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emotalking.errors import InputError


def temporary_path(path: Path) -> Path:
    """An empty temporary file in the folder of ``path`` (created if missing), to be renamed to it.

    It has the permissions that any new file gets; ``tempfile.mkstemp`` would make it private.

    Raises:
        OSError: the folder cannot be created or written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        scratch = path.parent / f".{path.stem}.{secrets.token_hex(4)}.part"
        try:
            os.close(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        except FileExistsError:
            continue
        return scratch


def checked_scratch(path: Path) -> Path:
    """:func:`temporary_path` with an error message for the user.

    Raises:
        InputError: the folder cannot be created or written to, or ``path`` is a folder.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the name of a file.")
    try:
        return temporary_path(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): choose another place.") from error


def clear_scratch(path: Path) -> None:
    """Remove temporary files that killed processes left next to ``path``; no process may be writing ``path``."""
    for scratch in path.parent.glob(f".{glob.escape(path.stem)}.????????.part"):
        scratch.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file to write to: it becomes ``path`` when the block ends without an error, else it is removed."""
    scratch = temporary_path(path)
    mode = scratch.stat().st_mode
    try:
        yield scratch
        os.chmod(scratch, mode)  # safetensors 0.8 puts a private file of its own in its place
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with replacing(path) as scratch:
        scratch.write_bytes(data)
