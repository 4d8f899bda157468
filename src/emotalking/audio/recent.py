"""The end of an array that grows without end."""

import numpy as np
from jaxtyping import Float


class RecentRows:
    """The last rows of an array that grows at its end, in constant memory.

    Args:
        width: of a row.
        kept: rows.
    """

    def __init__(self, width: int, kept: int) -> None:
        self._rows = np.zeros((2 * kept, width), np.float32)
        self._kept = kept
        self._end = 0

    def append(self, rows: Float[np.ndarray, "n width"], instead: int = 0) -> None:
        """Append rows in place of the last ``instead``."""
        self._end -= instead
        rows = rows[-self._kept :]
        if self._end + len(rows) > len(self._rows):
            held = self.held.copy()
            self._rows[: len(held)] = held
            self._end = len(held)
        self._rows[self._end : self._end + len(rows)] = rows
        self._end += len(rows)

    @property
    def held(self) -> Float[np.ndarray, "k width"]:
        """The rows that are kept; a view until the next call of :meth:`append`."""
        return self._rows[max(0, self._end - self._kept) : self._end]
