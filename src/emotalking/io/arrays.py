"""NumPy files, read by one thread at a time."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Literal

import numpy as np

_HEADER = Lock()
"""Held while numpy reads a header, which it does with Python's parser: two threads in it at once can raise
"SystemError: AST constructor recursion depth mismatch" (with 3.11; github.com/python/cpython/issues/106905)."""


@contextmanager
def _reading() -> Iterator[None]:
    """Hold the lock, and turn the zip reader's errors into numpy's own kind."""
    try:
        with _HEADER:
            yield
    except (zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(str(error)) from error


def load_array(path: Path, mmap_mode: Literal["r"] | None = None) -> np.ndarray:
    """Read the array of a ``.npy`` file; pickles are refused.

    Args:
        path: file.
        mmap_mode: "r" maps the values into memory, read-only, instead of reading them.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError, EOFError: it is no single array, or damaged.
    """
    with _reading():
        array = np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            array.close()
            raise ValueError("an archive instead of one array")
    return array


def load_archive(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an ``.npz`` archive by name; pickles are refused.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError, EOFError: it is no archive of plain arrays, or damaged.
    """
    with _reading():
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError("one array instead of an archive")
        with archive:
            return dict(archive)
