"""Log filter-bank energies and cepstra every 10 ms, the input of the sync experts.

:func:`mfcc` follows the definition of the Python package ``python_speech_features`` with its default settings, on which
the published SyncNet was trained: pre-emphasis 0.97, 25 ms rectangular windows every 10 ms, 512-point power spectrum,
26 triangular filters from 0 to 8 kHz, logarithm, 13 orthonormal cosines, lifter 22, and the log energy in place of the
first coefficient. Written from that definition; a test holds it against numbers of that package.
"""

from collections.abc import Iterator
from functools import cache

import numpy as np
from jaxtyping import Float
from scipy.fft import dct

from emotalking.audio.mel import mel_corners, triangles
from emotalking.io.audio import SAMPLE_RATE

STEP = SAMPLE_RATE // 100
"""Samples from one step to the next: 10 ms."""
WINDOW = 400
"""Samples under a window: 25 ms. Step s covers the samples [160 s, 160 s + 400)."""
FFT = 512
PREEMPHASIS = 0.97
COEFFICIENTS = 13
FILTERS = 26
LIFTER = 22
FULL_SCALE = 32768.0
"""Samples count as 16-bit integers."""

_BLOCK = 4096
"""Steps transformed at once."""


@cache
def filterbank(filters: int) -> Float[np.ndarray, "filters bins"]:
    """Triangles over the power spectrum, 0 to 8 kHz, equally spaced on the mel scale, corners at whole bins.

    Args:
        filters: how many; up to 40 every one covers a bin.
    """
    corners = np.floor((FFT + 1) * mel_corners(0, SAMPLE_RATE / 2, filters) / SAMPLE_RATE)
    return triangles(corners, np.arange(FFT // 2 + 1, dtype=np.float64))


def num_steps(samples: int) -> int:
    """Steps that a sound of so many samples has: every sample is under a window, the last one is filled with zeros."""
    return 1 + max(0, -(-(samples - WINDOW) // STEP))


def log_energies(
    samples: Float[np.ndarray, " n"], filters: int, window: Float[np.ndarray, "400"]
) -> tuple[Float[np.ndarray, "steps filters"], Float[np.ndarray, " steps"]]:
    """Natural logarithms of the energy in each filter and of the whole, every 10 ms.

    Args:
        samples: mono at 16 kHz in [-1, 1]; they are rounded to 16-bit integers.
        filters: of :func:`filterbank`.
        window: weights of the samples under a window.

    Returns:
        Energies on the scale of 16-bit integers; the logarithm of digital silence is that of the smallest step of a
        float64 (-36).
    """
    bank = filterbank(filters).T
    steps = num_steps(len(samples))
    bands, whole = np.empty((steps, filters)), np.empty(steps)
    for begin, frames in _frames(samples, steps):
        power = np.abs(np.fft.rfft(frames * window, FFT)) ** 2 / FFT
        bands[begin : begin + len(frames)] = power @ bank
        whole[begin : begin + len(frames)] = power.sum(1)
    floor = np.finfo(float).eps
    return np.log(np.where(bands == 0, floor, bands)), np.log(np.where(whole == 0, floor, whole))


def _frames(samples: np.ndarray, steps: int) -> Iterator[tuple[int, np.ndarray]]:
    """Windows of the pre-emphasised sound in blocks: number of the first one, and [b, 400]."""
    for begin in range(0, steps, _BLOCK):
        count = min(_BLOCK, steps - begin)
        first, last = begin * STEP, (begin + count - 1) * STEP + WINDOW
        piece = samples[max(first - 1, 0) : last].astype(np.float64) * FULL_SCALE
        piece = np.clip(np.round(piece), -FULL_SCALE, FULL_SCALE - 1)
        piece = np.concatenate([np.zeros(1 if first == 0 else 0), piece])
        emphasised = piece[1:] - PREEMPHASIS * piece[:-1]
        emphasised = np.pad(emphasised, (0, last - first - len(emphasised)))
        yield begin, np.lib.stride_tricks.sliding_window_view(emphasised, WINDOW)[::STEP]


def mfcc(samples: Float[np.ndarray, " n"]) -> Float[np.ndarray, "steps 13"]:
    """The first 13 cepstral coefficients every 10 ms; see the module's text.

    Args:
        samples: mono at 16 kHz in [-1, 1].
    """
    bands, whole = log_energies(samples, FILTERS, np.ones(WINDOW))
    cepstra = np.asarray(dct(bands, type=2, axis=1, norm="ortho"))[:, :COEFFICIENTS]
    cepstra *= 1.0 + LIFTER / 2 * np.sin(np.pi * np.arange(COEFFICIENTS) / LIFTER)
    cepstra[:, 0] = whole
    return cepstra
