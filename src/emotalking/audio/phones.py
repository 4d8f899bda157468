"""Audio features that are posteriors of phones.

They hold little of the voice's timbre, so that lips learned from one person follow another's voice better
(``benchmarks/audio_features.py``). The model is English, but works frame by frame, without words or English sequences
of phones, so that other languages show up as the nearest English phones.

Cepstra as the acoustic model of pocketsphinx expects them (its ``feat.params``), in pieces: pre-emphasis 0.97, Hamming
windows of 25.6 ms every 10 ms, 25 triangles of unit area from 130 to 6800 Hz, logarithm, 13 cosines (orthonormal),
lifter 22; then the mean is subtracted and deltas over +-2 frames and delta-deltas (over +-1) are added.
``benchmarks/phone_frames.py`` holds them against the cepstra of pocketsphinx itself.

Deviation: its tracking of noise (``-remove_noise``) is left out: it has a memory, so that a frame would depend on all
frames before it. Noise is handled by its constant part: a floor under the power.
"""

from collections.abc import Iterable, Iterator
from functools import cache

import numpy as np
from jaxtyping import Float
from scipy.fft import dct

from emotalking.audio.mel import WEAKEST_SPEECH, Counted, iter_windows, mel_corners, speech_level, triangles
from emotalking.audio.phones_model import SILENT, acoustic_model
from emotalking.audio.tracks import StepFeatures
from emotalking.data.audio_features import AudioFeature
from emotalking.io.audio import SAMPLE_RATE
from emotalking.io.rows import GrowingRows, blocks, spread

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
_HAMMING = np.hamming(WINDOW).astype(np.float32)
_BLOCK = 512
"""Frames transformed at once."""

GAIN = 3.0
"""Posteriors are multiplied by this, so that they are about as large as the other features."""
REACH_S = 0.2178125
"""As ``mel.REACH_S``: 0.16 s + half a step, and half a window and the deltas' three frames of 10 ms."""

_FLOOR = 10.0 ** (-45 / 10)
"""Power added to each band, relative to its mean in speech: digital silence must not become a signal of its own."""
_ACTIVE = 10.0 ** (-25 / 10)
_ENOUGH = 180_000
"""Frames (half an hour) from which on the mean is taken from pieces spread over the recording."""


@cache
def _filters() -> Float[np.ndarray, "bands bins"]:
    """Triangles on the mel scale with their corners on bins of the spectrum."""
    bin_hz = SAMPLE_RATE / FFT
    corners = np.floor(mel_corners(_LOWEST_HZ, _HIGHEST_HZ, BANDS) / bin_hz + 0.5) * bin_hz
    area = 2.0 / (corners[2:] - corners[:-2])[:, None]
    return (triangles(corners, np.arange(FFT // 2 + 1) * bin_hz) * area).astype(np.float32)


def iter_power(counted: Counted) -> Iterator[Float[np.ndarray, "frames bands"]]:
    """Power in the bands, frame by frame every 10 ms; an even number of frames covers the whole recording."""
    filters = _filters().T
    for windows in iter_windows(counted, WINDOW, HOP, LEAD, 2):
        yield (np.abs(np.fft.rfft(windows * _HAMMING, FFT)) ** 2 @ filters).astype(np.float32)


def cepstra(
    power: Float[np.ndarray, "frames bands"], floor: Float[np.ndarray, " bands"]
) -> Float[np.ndarray, "frames cepstra"]:
    """Cepstra of band power; ``floor`` is added to it."""
    found = np.asarray(dct(np.log(power + floor), axis=1, norm="ortho"))[:, :CEPSTRA]
    return found * (1 + _LIFTER / 2 * np.sin(np.pi / _LIFTER * np.arange(CEPSTRA, dtype=np.float32)))


def with_deltas(frames: Float[np.ndarray, "frames cepstra"]) -> Float[np.ndarray, "kept 39"]:
    """Cepstra with their deltas and delta-deltas, of all frames but `REACH` at each end."""
    kept = len(frames) - 2 * REACH

    def at(shift: int) -> np.ndarray:
        return frames[REACH + shift : REACH + shift + kept]

    return np.concatenate([at(0), at(2) - at(-2), (at(3) - at(-1)) - (at(1) - at(-3))], 1)


def track(chunks: Iterable[Float[np.ndarray, " n"]], feature: AudioFeature) -> StepFeatures:
    """Posteriors of 39 English phones every 20 ms; what is missing to the sum `GAIN` is silence or noise.

    Frame-wise, not decoded: no language model decides, and ambiguity is kept (``benchmarks/phone_frames.py`` measures
    how often the strongest phone is the spoken one). The mean of the cepstra over the whole recording is subtracted.

    Args:
        chunks: consecutive pieces of float32 mono at 16 kHz in [-1, 1].
        feature: the row of these features.

    Raises:
        InputError: the package pocketsphinx is missing.
    """
    model = acoustic_model()
    spoken = [index for index, phone in enumerate(model.phones) if phone not in SILENT]
    counted = Counted(chunks)
    powers, totals = GrowingRows(BANDS), [np.zeros(0, np.float32)]
    for power in iter_power(counted):
        powers.append(power)
        totals.append(power.sum(1))
    values = GrowingRows(feature.channels)
    levels = _levels(powers, np.concatenate(totals))
    for pick in blocks(len(powers), _BLOCK):
        if levels is None:
            values.append(np.zeros(((pick.stop - pick.start) // 2, feature.channels), np.float32))
            continue
        floor, mean = levels
        begin, end = max(0, pick.start - REACH), min(len(powers), pick.stop + REACH)
        near = cepstra(powers[begin:end], floor) - mean
        lacking = (REACH - (pick.start - begin), REACH - (end - pick.stop))
        likely = model.posteriors(with_deltas(np.pad(near, (lacking, (0, 0)), mode="edge")))
        values.append(GAIN * likely[:, spoken].reshape(-1, 2, feature.channels).mean(1))
    return StepFeatures(values, feature.rate_hz, feature.steps, counted.samples / SAMPLE_RATE)


def _levels(
    powers: GrowingRows, totals: Float[np.ndarray, " frames"]
) -> tuple[Float[np.ndarray, " bands"], Float[np.ndarray, " cepstra"]] | None:
    """Floor of each band and mean cepstrum of a recording; None where there is no speech."""
    level = speech_level(totals)
    # The same limit as log-mel's, in the units of band power: that of white noise with mean square 1.
    if level < WEAKEST_SPEECH * float(_filters().sum() * (_HAMMING**2).sum()):
        return None
    picked = spread(len(powers), _ENOUGH)
    power = np.concatenate([powers[pick] for pick in picked])
    active = np.concatenate([totals[pick] for pick in picked]) > _ACTIVE * level
    if not active.any():
        return None
    floor = (_FLOOR * power[active].mean(0)).astype(np.float32)
    floor = np.maximum(floor, np.float32(1e-9) * floor.max() + np.float32(1e-30))
    return floor, cepstra(power, floor).mean(0)
