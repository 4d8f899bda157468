"""Sound that comes in at any rate and any pieces, and leaves at another rate when it is asked for."""

from collections import deque

import numpy as np
import soxr
from jaxtyping import Float

_BLOCK_S = 0.02
"""Sound that is resampled at a time."""


class SampleQueue:
    """First in, first out, in memory that holds what is not yet taken."""

    def __init__(self) -> None:
        self._pieces: deque[np.ndarray] = deque()
        self._taken = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, samples: Float[np.ndarray, " n"]) -> None:
        """Append samples; they must not be changed afterwards."""
        if len(samples):
            self._pieces.append(samples)
            self._count += len(samples)

    def take(self, count: int) -> Float[np.ndarray, " n"]:
        """The next ``count`` samples, or as many as there are."""
        count = min(count, self._count)
        self._count -= count
        parts = [np.zeros(0, np.float32)]
        while count:
            piece = self._pieces[0][self._taken : self._taken + count]
            parts.append(piece)
            count -= len(piece)
            self._taken += len(piece)
            if self._taken == len(self._pieces[0]):
                self._pieces.popleft()
                self._taken = 0
        return np.concatenate(parts)


class LazyResampler:
    """Resampled sound, made when it is asked for: a push costs nothing, however long it is.

    The result does not depend on the pieces. Equal rates change no sample. Otherwise the resampler holds up to 40 ms
    back until more sound comes or :meth:`close` says that there is none.
    """

    def __init__(self, rate: int, wanted_rate: int) -> None:
        self._resampler = None if rate == wanted_rate else soxr.ResampleStream(rate, wanted_rate, 1, dtype="float32")
        self._block = max(1, round(rate * _BLOCK_S))
        self._raw, self._made = SampleQueue(), SampleQueue()
        self._closed = self._drained = False

    def push(self, samples: Float[np.ndarray, " n"]) -> None:
        """Append samples at the first rate; they must not be changed afterwards."""
        self._raw.push(samples)

    def close(self) -> None:
        """No sound follows."""
        self._closed = True

    def has(self, count: int) -> bool:
        """Resample until ``count`` samples are there; False: not enough sound yet. At the end, any number is there."""
        if self._resampler is None:
            return len(self._raw) >= count or self._closed
        while len(self._made) < count and not self._drained:
            last = self._closed and len(self._raw) <= self._block
            if not last and len(self._raw) < self._block:
                return False
            self._made.push(self._resampler.resample_chunk(self._raw.take(self._block), last=last))
            self._drained = last
        return True

    def take(self, count: int) -> Float[np.ndarray, " n"]:
        """The next ``count`` samples; fewer where the sound ends (:meth:`has`)."""
        self.has(count)
        return (self._raw if self._resampler is None else self._made).take(count)

    @property
    def empty(self) -> bool:
        """True once the sound has ended and all of it was taken."""
        return self._closed and self.has(1) and not len(self._raw) + len(self._made)
