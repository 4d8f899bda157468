"""Cepstra as the acoustic model of pocketsphinx expects them (its ``feat.params``), in pieces.

Pre-emphasis 0.97, Hamming windows of 25.6 ms every 10 ms, 25 triangles of unit area from 130 to 6800 Hz, logarithm,
13 cosines (orthonormal), lifter 22; then the mean is subtracted and deltas over +-2 frames and delta-deltas
(over +-1) are added. ``benchmarks/phone_frames.py`` holds them against the cepstra of pocketsphinx itself.

Deviation: its tracking of noise (``-remove_noise``) is left out: it has a memory, so that a frame would depend on all
frames before it. Noise is handled by its constant part: a floor under the power.
"""

from collections.abc import Iterator
from functools import cache

import numpy as np
from jaxtyping import Float

from emotalking.audio.mel import Counted, mel_corners, triangles
from emotalking.io.audio import SAMPLE_RATE

HOP = 160
"""Samples from one frame to the next: 10 ms."""
WINDOW = 410
FFT = 512
BANDS = 25
CEPSTRA = 13
REACH = 3
"""Frames to each side that enter the deltas of a frame."""
LEAD = (WINDOW - 2 * HOP) // 2 + HOP // 2
"""Samples by which windows begin early, so that frames 2s and 2s + 1 together are centred on (s + 1/2) 20 ms."""

_LOWEST_HZ, _HIGHEST_HZ = 130.0, 6800.0
_LIFTER = 22
_BLOCK = 512
"""Frames transformed at once."""


@cache
def _filters() -> Float[np.ndarray, "bands bins"]:
    """Triangles on the mel scale with their corners on bins of the spectrum."""
    bin_hz = SAMPLE_RATE / FFT
    corners = np.floor(mel_corners(_LOWEST_HZ, _HIGHEST_HZ, BANDS) / bin_hz + 0.5) * bin_hz
    area = 2.0 / (corners[2:] - corners[:-2])[:, None]
    return (triangles(corners, np.arange(FFT // 2 + 1) * bin_hz) * area).astype(np.float32)


@cache
def _hamming() -> Float[np.ndarray, " window"]:
    return (0.54 - 0.46 * np.cos(2 * np.pi * np.arange(WINDOW) / (WINDOW - 1))).astype(np.float32)


@cache
def _cosines() -> Float[np.ndarray, "bands cepstra"]:
    """Orthonormal DCT-II with the lifter on it."""
    order = np.arange(CEPSTRA)
    basis = np.cos(np.pi / BANDS * (np.arange(BANDS)[:, None] + 0.5) * order) * np.sqrt(2.0 / BANDS)
    basis[:, 0] *= np.sqrt(0.5)
    return (basis * (1.0 + _LIFTER / 2 * np.sin(np.pi / _LIFTER * order))).astype(np.float32)


def iter_power(counted: Counted) -> Iterator[Float[np.ndarray, "frames bands"]]:
    """Power in the bands, frame by frame every 10 ms; an even number of frames covers the whole recording."""
    hamming, filters = _hamming(), _filters().T
    pending, done = np.zeros(LEAD, np.float32), 0

    def transformed(signal: np.ndarray, frames: int) -> np.ndarray:
        cut = np.lib.stride_tricks.sliding_window_view(signal, WINDOW)[: frames * HOP : HOP]
        return (np.abs(np.fft.rfft(cut * hamming, FFT)) ** 2 @ filters).astype(np.float32)

    for chunk in counted:
        pending = np.concatenate([pending, chunk])
        while len(pending) >= _BLOCK * HOP + WINDOW:
            yield transformed(pending, _BLOCK)
            pending = pending[_BLOCK * HOP :]
            done += _BLOCK
    rest = 2 * -(-counted.samples // (2 * HOP)) - done
    if rest > 0:
        yield transformed(np.pad(pending, (0, max(0, rest * HOP + WINDOW - len(pending)))), rest)


def cepstra(
    power: Float[np.ndarray, "frames bands"], floor: Float[np.ndarray, " bands"]
) -> Float[np.ndarray, "frames cepstra"]:
    """Cepstra of band power; ``floor`` is added to it."""
    return np.log(power + floor) @ _cosines()


def with_deltas(frames: Float[np.ndarray, "frames cepstra"]) -> Float[np.ndarray, "kept 39"]:
    """Cepstra with their deltas and delta-deltas, of all frames but `REACH` at each end."""
    kept = len(frames) - 2 * REACH

    def at(shift: int) -> np.ndarray:
        return frames[REACH + shift : REACH + shift + kept]

    return np.concatenate([at(0), at(2) - at(-2), (at(3) - at(-1)) - (at(1) - at(-3))], 1)


def band_power_of_unit_noise() -> float:
    """Sum over the bands of the mean power of white noise with mean square 1."""
    return float(_filters().sum() * (_hamming() ** 2).sum())
