"""Writing files so that nobody ever meets half of one."""

import glob
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# It can only be read by setting it, for the whole process: once, before there are threads.
_UMASK = os.umask(0)
os.umask(_UMASK)


def scratch_beside(path: Path) -> Path:
    """An empty temporary file in the folder of ``path`` (which is made), to be renamed to it; with usual permissions.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=".part")
    os.close(handle)
    os.chmod(scratch, 0o666 & ~_UMASK)  # mkstemp makes private files
    return Path(scratch)


def clear_scratch(path: Path) -> None:
    """Remove what killed processes left of :func:`replacing` beside ``path``. Nobody may be writing ``path``."""
    for scratch in path.parent.glob(f".{glob.escape(path.stem)}.????????.part"):
        scratch.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file to write to: it becomes ``path`` when the block ends well, and vanishes otherwise."""
    scratch = scratch_beside(path)
    try:
        yield scratch
        os.chmod(scratch, 0o666 & ~_UMASK)  # safetensors 0.8 puts a private file of its own in its place
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` in one piece."""
    with replacing(path) as scratch:
        scratch.write_bytes(data)
