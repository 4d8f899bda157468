"""NumPy files: read by one thread at a time, claims compared with the file; written so that full disks are noticed."""

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase, BytesIO
from pathlib import Path
from threading import Lock
from typing import IO, Literal

import numpy as np
from numpy.lib import format as npy

from emotalking.io.archives import check_archive
from emotalking.io.files import reserve, write_bytes

_HEADER = Lock()
"""Held while numpy reads a header, which it does with Python's parser: two threads in it at once can raise
"SystemError: AST constructor recursion depth mismatch" (with 3.11; github.com/python/cpython/issues/106905)."""
_KINDS = "biufU"
"""Plain numbers and text."""
_LONGEST_TEXT = 4096
"""Bytes of one text in an array that may be empty."""


@contextmanager
def _reading() -> Iterator[None]:
    """Hold the lock, and turn everything that numpy and the zip reader raise for damaged bytes into one kind."""
    try:
        with _HEADER:
            yield
    except (OSError, MemoryError, ValueError):
        raise
    except zipfile.BadZipFile as error:
        raise ValueError(f"no whole archive: {error}") from error
    except Exception as error:
        raise ValueError(str(error) or type(error).__name__) from error


def _check_header(file: BufferedIOBase | IO[bytes], size: int) -> None:
    """Compare the header of an array with the ``size`` bytes of its file.

    Raises:
        ValueError: other than plain numbers, or more of them than there are bytes.
    """
    version = npy.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = npy.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = npy.read_array_header_2_0(file)
    else:
        raise ValueError(f"an array of format {version}")
    if dtype.kind not in _KINDS or dtype.fields is not None or dtype.subdtype is not None:
        raise ValueError(f"an array of {dtype}")
    if dtype.itemsize > max(size, _LONGEST_TEXT):  # NumPy makes one element for an empty array, too
        raise ValueError(f"an array of {dtype}")
    there = size - file.tell()
    if any(length < 0 for length in shape) or math.prod(shape) * dtype.itemsize > there:
        raise ValueError(f"an array of {list(shape)} {dtype} in {there} bytes")


def load_array(path: Path, mmap_mode: Literal["r"] | None = None) -> np.ndarray:
    """Read the array of a ``.npy`` file: plain numbers or text.

    Args:
        path: file.
        mmap_mode: "r" maps the values into memory, read-only, instead of reading them.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is no single array of plain numbers, cut short or damaged.
    """
    with _reading():
        with path.open("rb") as file:
            if file.read(2) == b"PK":
                raise ValueError("an archive instead of one array")
            file.seek(0)
            _check_header(file, path.stat().st_size)
        return np.load(path, mmap_mode=mmap_mode, allow_pickle=False)


def load_archive(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an ``.npz`` archive by name: plain numbers or text.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is no archive of plain arrays, damaged, or would expand to far more than its size.
    """
    with _reading():
        with zipfile.ZipFile(path) as archive:
            check_archive(archive, path.stat().st_size)
            for part in archive.infolist():
                with archive.open(part) as file:
                    _check_header(file, part.file_size)
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an array as ``.npy`` atomically.

    Raises:
        CannotWriteError: the disk is full, ...
    """
    content = BytesIO()  # for a file numpy takes C's functions, which report no full disk
    np.save(content, array, allow_pickle=False)
    write_bytes(path, content.getvalue())


def mapped_array(path: Path, shape: tuple[int, ...]) -> np.memmap:
    """A new ``.npy`` file of zeros, float32, mapped into memory to be filled; ``flush`` writes it.

    Raises:
        OSError: the disk has no space for all of it.
    """
    array = npy.open_memmap(path, "w+", np.float32, shape)
    reserve(path, path.stat().st_size)
    return array
