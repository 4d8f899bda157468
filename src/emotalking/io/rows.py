"""Tables that grow row by row and move from memory to a temporary file when they get long."""

from collections.abc import Iterator
from tempfile import SpooledTemporaryFile
from threading import Lock
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

IN_MEMORY = 1 << 24
"""Bytes up to which a table stays in memory."""
BLOCK = 1 << 14
"""Rows read at once when iterating a whole table."""


@runtime_checkable
class Rows(Protocol):
    """A long table of numbers [S, C]: a NumPy array, a mapped file or :class:`GrowingRows`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(S, C)."""
        ...

    def __len__(self) -> int:
        """S."""
        ...

    def __getitem__(self, rows: slice, /) -> Any:
        """Consecutive rows as an array."""
        ...


class GrowingRows:
    """Float32 rows of one width; from `IN_MEMORY` bytes on they lie in an unnamed temporary file.

    An hour of features takes 20 MB (log-mel) to 700 MB (HuBERT), so that ten hours would not fit into memory.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._count = 0
        self._file = SpooledTemporaryFile(max_size=IN_MEMORY)
        self._lock = Lock()

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, width)."""
        return (self._count, self._width)

    def __len__(self) -> int:
        return self._count

    def append(self, rows: Float[np.ndarray, "n C"]) -> None:
        """Add rows at the end.

        Raises:
            ValueError: rows of another width.
        """
        if rows.shape[1:] != (self._width,):
            raise ValueError(f"rows of {rows.shape[1:]} numbers do not fit into a table of {self._width}")
        with self._lock:
            self._file.seek(0, 2)
            self._file.write(np.ascontiguousarray(rows, np.float32).tobytes())
            self._count += len(rows)

    def __getitem__(self, rows: slice, /) -> Float[np.ndarray, "n C"]:
        """Rows of a slice with step 1, as a new array."""
        start, stop, step = rows.indices(self._count)
        if step != 1:
            raise ValueError("only consecutive rows can be read")
        count = max(0, stop - start)
        with self._lock:
            self._file.seek(start * self._width * 4)
            read = self._file.read(count * self._width * 4)
        return np.frombuffer(read, np.float32).reshape(count, self._width)


def blocks(count: int, size: int = BLOCK) -> Iterator[slice]:
    """``count`` rows in order, ``size`` at a time."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def spread(count: int, most: int, size: int = 512) -> list[slice]:
    """All of ``count`` rows, or where there are more than ``most``, pieces of ``size`` rows spread evenly over them.

    Statistics of a recording converge long before hours of it.
    """
    if count <= most:
        return [slice(0, count)]
    return [slice(int(start), int(start) + size) for start in np.linspace(0, count - size, most // size)]
