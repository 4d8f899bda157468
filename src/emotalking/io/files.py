"""Writing files so that nobody ever meets half of one."""

import glob
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def scratch_beside(path: Path) -> Path:
    """An empty temporary file in the folder of ``path`` (which is made), to be renamed to it; with usual permissions.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        scratch = path.parent / f".{path.stem}.{secrets.token_hex(4)}.part"
        with suppress(FileExistsError):
            scratch.touch(exist_ok=False)  # Not mkstemp, whose files are private.
            return scratch


def clear_scratch(path: Path) -> None:
    """Remove what killed processes left of :func:`replacing` beside ``path``. Nobody may be writing ``path``."""
    for scratch in path.parent.glob(f".{glob.escape(path.stem)}.????????.part"):
        scratch.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file to write to: it becomes ``path`` when the block ends well, and vanishes otherwise."""
    scratch = scratch_beside(path)
    mode = stat.S_IMODE(scratch.stat().st_mode)
    try:
        yield scratch
        scratch.chmod(mode)  # safetensors 0.8 puts a private file of its own in its place
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` in one piece."""
    with replacing(path) as scratch:
        scratch.write_bytes(data)
