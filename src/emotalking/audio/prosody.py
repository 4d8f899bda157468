"""Prosody of speech every 20 ms: power in two bands of the telephone's, pitch, voicing, and beginnings of phones.

Pitch is the highest peak of the autocorrelation (Boersma 1993) of a 64 ms window. The square root of the power spectrum
is transformed, so that one strong harmonic cannot pass for the pitch and a missing fundamental (telephone) is found.
Phones are the spikes of the recogniser's posteriors (:mod:`emotalking.audio.hama_model`).
"""

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float

from emotalking.audio.hama import MARGIN, PIECE, padded
from emotalking.audio.hama_model import PHONES, hama_network
from emotalking.audio.mel import HOP
from emotalking.audio.pieces import overlapping
from emotalking.io.audio import SAMPLE_RATE
from emotalking.io.rows import GrowingRows

LOW_HZ, HIGH_HZ = (280.0, 900.0), (1425.0, 3400.0)
"""Bands whose powers are compared, as in the alpha ratio and the Hammarberg index of eGeMAPS (Eyben et al. 2016), but
within the band that telephones keep, and without the range between, where the second formant comes and goes."""
WINDOW = 1024
"""Samples around the middle of a step that are seen: 64 ms."""
COLUMNS = 5
LOW, HIGH, SEMITONES, VOICING, PHONE = range(COLUMNS)
"""Columns of the rows: power of both bands (a full-scale square wave has 1), pitch in semitones above 100 Hz, the
autocorrelation there (0..1), and 1 where a phone begins."""

_FFT = 2048
_HZ = np.fft.rfftfreq(_FFT, 1 / SAMPLE_RATE)
_LOW, _HIGH = ((begin <= _HZ) & (end > _HZ) for begin, end in (LOW_HZ, HIGH_HZ))
_PITCH_BAND = (_HZ >= 60) & (_HZ <= 3400)
_LAGS = np.arange(SAMPLE_RATE // 600, SAMPLE_RATE // 70 + 1)
"""Periods of voices that whisper to none and shout to most: 70 to 600 Hz."""
_OCTAVE_COST = 0.02
"""Preference of the higher of two pitches an octave apart that explain the sound as well (Boersma's is .01)."""
_BEYOND = (WINDOW - HOP) // 2
"""Samples that the window of a step reaches beyond it."""
_LEAD = -(-_BEYOND // HOP)
"""The same before it, in whole steps."""
_BLOCK = 1000
"""Steps transformed at once."""


def prosody(chunks: Iterable[Float[np.ndarray, " _"]]) -> Float[np.ndarray, "S columns"]:
    """Rows of a recording, float32; the result does not depend on how it was cut.

    Args:
        chunks: consecutive pieces of float32 mono at 16 kHz in [-1, 1].

    Raises:
        MissingModelError: the package hama is missing.
    """
    rows = GrowingRows(COLUMNS)
    for piece in overlapping(chunks, PIECE, MARGIN, HOP, WINDOW):
        steps = slice(piece.before, piece.before + piece.steps)
        rows.append(np.column_stack([acoustics(piece.samples)[steps], phone_beginnings(piece.samples)[steps]]))
    return rows[:]


def acoustics(samples: Float[np.ndarray, " n"]) -> Float[np.ndarray, "steps 4"]:
    """All columns but the phones of every step that has begun, float32; outside ``samples`` there is silence."""
    steps = -(-len(samples) // HOP)
    lead = (WINDOW - HOP) // 2
    outside = np.pad(samples, (lead, max(0, steps * HOP + WINDOW - len(samples))))
    windows = np.lib.stride_tricks.sliding_window_view(outside, WINDOW)[::HOP][:steps]
    blocks = [_measured(windows[begin : begin + _BLOCK]) for begin in range(0, steps, _BLOCK)]
    return np.concatenate([np.zeros((0, COLUMNS - 1), np.float32), *blocks])


class AcousticStream:
    """:func:`acoustics` of sound while it comes in, 22 ms behind it."""

    def __init__(self) -> None:
        self._sound = np.zeros(_LEAD * HOP, np.float32)

    def push(self, samples: Float[np.ndarray, " n"]) -> Float[np.ndarray, "steps 4"]:
        """The rows that are complete after ``samples`` more; they do not depend on the pieces."""
        self._sound = np.concatenate([self._sound, samples.astype(np.float32)])
        steps = max(0, (len(self._sound) - _LEAD * HOP - _BEYOND) // HOP)
        rows = acoustics(self._sound[: (_LEAD + steps) * HOP + _BEYOND])[_LEAD : _LEAD + steps]
        self._sound = self._sound[steps * HOP :]
        return rows


def phone_beginnings(samples: Float[np.ndarray, " n"]) -> Float[np.ndarray, " steps"]:
    """1 in each step of 20 ms in which a phone begins, else 0."""
    steps = -(-len(samples) // HOP)
    best = hama_network().log_posteriors(torch.from_numpy(padded(samples))[None])[0].argmax(-1).numpy()
    begins = (best != PHONES - 1) & (np.concatenate([[PHONES - 1], best[:-1]]) != best)
    return np.pad(begins, (0, max(0, steps - len(begins))))[:steps].astype(np.float32)


def _measured(windows: Float[np.ndarray, "S n"]) -> Float[np.ndarray, "S 4"]:
    hann = np.hanning(WINDOW + 1)[:-1]
    power = np.abs(np.fft.rfft(windows * hann, _FFT)) ** 2 * (2.0 / _FFT / float((hann**2).sum()))
    correlation = np.fft.irfft(np.sqrt(np.where(_PITCH_BAND, power, 0.0)), axis=1)
    peaks = correlation[:, _LAGS] / np.maximum(correlation[:, :1], 1e-9)
    place = (peaks - _OCTAVE_COST * np.log2(_LAGS / _LAGS[0])).argmax(1).clip(1, len(_LAGS) - 2)
    before, here, after = (peaks[np.arange(len(peaks)), place + shift] for shift in (-1, 0, 1))
    # The parabola through three values finds the peak between two lags.
    part = np.clip((before - after) / np.minimum(2 * (before - 2 * here + after), -1e-9), -0.5, 0.5)
    semitones = 12 * np.log2(SAMPLE_RATE / (_LAGS[place] + part) / 100)
    return np.column_stack([power[:, _LOW].sum(1), power[:, _HIGH].sum(1), semitones, here]).astype(np.float32)
