"""Accents of speech: syllables that stand out by loudness and pitch, found while the sound comes in.

Prominence is perceived where loudness and pitch rise above what is around (Kochanski et al. 2005, JASA 118: loudness
first). A syllable is a peak of the smoothed loudness of voiced steps; it is an accent if its loudness and pitch, each
relative to median and spread of the voice of the last seconds, are high together.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from emotalking.audio.mel import HOP
from emotalking.audio.prosody import HIGH, LOW, SEMITONES, VOICING, AcousticStream
from emotalking.io.audio import SAMPLE_RATE

DELAY_S = 0.12
"""Sound after the middle of an accent that must be heard to find it."""
_VOICED = 0.35
_WEAKEST = 1e-7
"""Power below which nothing is voice."""
_MEMORY, _FEWEST = 300, 25
"""Voiced steps that the statistics are taken from, and those that they need."""
_NEIGHBOURS = 3
"""Steps on each side that a peak of loudness must exceed."""
_LEAST_S = 0.25
"""Time between two accents: syllables are no shorter."""
_PITCH_SHARE = 0.6
_PROMINENT, _FULL = 0.4, 2.0
"""Prominence of the weakest accent, and of one of full strength."""
_LEAST_DB, _LEAST_SEMITONES = 3.0, 1.0
"""Spreads below which a voice is taken for even."""


@dataclass(frozen=True)
class Accent:
    """A prominent syllable."""

    time_s: float
    strength: float
    """0 to 1."""


class AccentStream:
    """Accents of sound while it comes in, :data:`DELAY_S` behind it."""

    def __init__(self) -> None:
        self._acoustics = AcousticStream()
        self._rows = np.zeros((0, 4), np.float32)
        """The last steps; peaks are sought in their middle."""
        self._steps = 0
        self._levels: list[float] = []
        self._pitches: list[float] = []
        self._last_s = -1.0

    def push(self, samples: Float[np.ndarray, " n"]) -> list[Accent]:
        """Accents that are known after ``samples`` more, float32 mono at 16 kHz; pieces do not matter."""
        found = []
        for row in self._acoustics.push(samples):
            self._rows = np.concatenate([self._rows, row[None]])[-2 * _NEIGHBOURS - 3 :]
            self._steps += 1
            if (accent := self._decide()) is not None:
                found.append(accent)
        return found

    def _decide(self) -> Accent | None:
        """The accent in the middle of the last steps."""
        newest = self._rows[-1]
        power = newest[LOW] + newest[HIGH]
        if newest[VOICING] > _VOICED and power > _WEAKEST:
            self._levels = [*self._levels, float(10 * np.log10(power))][-_MEMORY:]
            self._pitches = [*self._pitches, float(newest[SEMITONES])][-_MEMORY:]
        if len(self._rows) < 2 * _NEIGHBOURS + 3 or len(self._levels) < _FEWEST:
            return None
        loud = np.convolve(10 * np.log10(self._rows[:, LOW] + self._rows[:, HIGH] + 1e-12), np.ones(3) / 3, "valid")
        middle = self._rows[_NEIGHBOURS + 1]
        time_s = (self._steps - _NEIGHBOURS - 2 + 0.5) * HOP / SAMPLE_RATE
        peak = loud[_NEIGHBOURS] >= loud.max() and loud[_NEIGHBOURS] > loud[0] and middle[VOICING] > _VOICED
        if not peak or middle[LOW] + middle[HIGH] < _WEAKEST or time_s - self._last_s < _LEAST_S:
            return None
        loudness = _standing_out(float(loud[_NEIGHBOURS]), self._levels, _LEAST_DB)
        pitch = _standing_out(float(middle[SEMITONES]), self._pitches, _LEAST_SEMITONES)
        prominence = loudness + _PITCH_SHARE * float(np.clip(pitch, -1.5, 2.5))
        if prominence < _PROMINENT:
            return None
        self._last_s = time_s
        return Accent(time_s, float(np.clip((prominence - _PROMINENT) / (_FULL - _PROMINENT), 0.15, 1.0)))


def _standing_out(value: float, usual: list[float], least: float) -> float:
    """Distance from the median in spreads (half of the middle 68 %)."""
    low, median, high = np.quantile(usual, (0.16, 0.5, 0.84))
    return float((value - median) / max((high - low) / 2, least))


class Accents:
    """Accents of a recording, heard as far as they are asked for: one pass from its beginning."""

    def __init__(self, chunks: Iterable[Float[np.ndarray, " _"]]) -> None:
        """``chunks``: consecutive pieces of float32 mono at 16 kHz, taken one by one."""
        self._rest: Iterator[np.ndarray] = iter(chunks)
        self._stream = AccentStream()
        self._sound = np.zeros(0, np.float32)
        self._heard = 0

    def until(self, time_s: float) -> list[Accent]:
        """Accents that sound up to ``time_s`` tells, and earlier calls did not."""
        wanted = round(time_s * SAMPLE_RATE) - self._heard
        while len(self._sound) < wanted:
            piece = next(self._rest, None)
            if piece is None:
                break
            self._sound = np.concatenate([self._sound, piece])
        new, self._sound = self._sound[: max(wanted, 0)], self._sound[max(wanted, 0) :]
        self._heard += len(new)
        return self._stream.push(new)


class DelayedAccents:
    """Accents of sound that comes earlier than they are to be known: with every frame, a frame's worth.

    Args:
        ahead_s: by which the sound comes earlier.
        fps: frame rate [Hz].
    """

    def __init__(self, ahead_s: float, fps: float) -> None:
        self._stream = AccentStream()
        self._held, self._frame = round(ahead_s * SAMPLE_RATE), round(SAMPLE_RATE / fps)
        self._sound = np.zeros(0, np.float32)

    def step(self, sound: Float[np.ndarray, " n"]) -> list[Accent]:
        """Accents that the next frame may know of, after ``sound`` (may be empty) was heard."""
        waiting = np.concatenate([self._sound, sound])
        due = max(len(waiting) - self._held, 0 if len(sound) else min(self._frame, len(waiting)))
        self._sound = waiting[due:]
        return self._stream.push(waiting[:due])

    def forget(self) -> None:
        """Drop the sound that waits: it will not be played."""
        self._sound = self._sound[:0]
