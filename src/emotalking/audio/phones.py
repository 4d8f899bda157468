"""Audio features that are posteriors of phones.

They hold little of the voice's timbre, so that lips learned from one person follow another's voice better
(``benchmarks/audio_features.py``). The model is English, but works frame by frame, without words or English sequences
of phones, so that other languages show up as the nearest English phones.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float

from emotalking.audio import phones_cepstra as front
from emotalking.audio.mel import WEAKEST_SPEECH, Counted, speech_level
from emotalking.audio.phones_model import SILENT, acoustic_model
from emotalking.audio.tracks import StepFeatures
from emotalking.data.audio_features import AudioFeature
from emotalking.io.audio import SAMPLE_RATE
from emotalking.io.rows import GrowingRows, blocks, spread

GAIN = 3.0
"""Posteriors are multiplied by this, so that they are about as large as the other features."""
REACH_S = 0.2178125
"""As ``mel.REACH_S``: 0.16 s + half a step, and half a window and the deltas' three frames of 10 ms."""

_FLOOR = 10.0 ** (-45 / 10)
"""Power added to each band, relative to its mean in speech: digital silence must not become a signal of its own."""
_ACTIVE = 10.0 ** (-25 / 10)
_ENOUGH = 180_000
"""Frames (half an hour) from which on the mean is taken from pieces spread over the recording."""
_BLOCK = 512
_WEAKEST = WEAKEST_SPEECH * front.band_power_of_unit_noise()
"""The same as log-mel's, in the units of band power."""


def track(chunks: Iterable[Float[np.ndarray, " n"]], feature: AudioFeature) -> StepFeatures:
    """Posteriors of 39 English phones every 20 ms; what is missing to the sum `GAIN` is silence or noise.

    Frame-wise, not decoded: no language model decides, and ambiguity is kept (``benchmarks/phone_frames.py`` measures
    how often the strongest phone is the spoken one). The mean of the cepstra over the whole recording is subtracted.

    Args:
        chunks: consecutive pieces of float32 mono at 16 kHz in [-1, 1].
        feature: the row of these features.

    Raises:
        UserError: the package pocketsphinx is missing.
    """
    model = acoustic_model()
    spoken = [index for index, phone in enumerate(model.phones) if phone not in SILENT]
    counted = Counted(chunks)
    powers, totals = GrowingRows(front.BANDS), [np.zeros(0, np.float32)]
    for power in front.iter_power(counted):
        powers.append(power)
        totals.append(power.sum(1))
    values = GrowingRows(feature.channels)
    levels = _levels(powers, np.concatenate(totals))
    for pick in blocks(len(powers), _BLOCK):
        if levels is None:
            values.append(np.zeros(((pick.stop - pick.start) // 2, feature.channels), np.float32))
            continue
        floor, mean = levels
        begin, end = max(0, pick.start - front.REACH), min(len(powers), pick.stop + front.REACH)
        near = front.cepstra(powers[begin:end], floor) - mean
        lacking = (front.REACH - (pick.start - begin), front.REACH - (end - pick.stop))
        likely = model.posteriors(front.with_deltas(np.pad(near, (lacking, (0, 0)), mode="edge")))
        values.append(GAIN * likely[:, spoken].reshape(-1, 2, feature.channels).mean(1))
    return StepFeatures(values, feature.rate_hz, feature.steps, counted.samples / SAMPLE_RATE)


def _levels(
    powers: GrowingRows, totals: Float[np.ndarray, " frames"]
) -> tuple[Float[np.ndarray, " bands"], Float[np.ndarray, " cepstra"]] | None:
    """Floor of each band and mean cepstrum of a recording; None where there is no speech."""
    level = speech_level(totals)
    if level < _WEAKEST:
        return None
    picked = spread(len(powers), _ENOUGH)
    power = np.concatenate([powers[pick] for pick in picked])
    active = np.concatenate([totals[pick] for pick in picked]) > _ACTIVE * level
    if not active.any():
        return None
    floor = (_FLOOR * power[active].mean(0)).astype(np.float32)
    floor = np.maximum(floor, np.float32(1e-9) * floor.max() + np.float32(1e-30))
    return floor, front.cepstra(power, floor).mean(0)
