"""Measures of a clip's sound: speech, pauses, noise, clipping."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import binary_closing, binary_opening

from emotalking.audio.mel import HOP, MelSpectra, mel_spectra, normalise

STEP_S = HOP / 16000
"""Seconds from one step of the activity to the next."""
_ACTIVE = 0.3
"""Mean of the normalised channels: 0 is silence, speech 2."""
_BRIDGE, _SHORTEST = 12, 3
"""Steps: pauses below a quarter of a second belong to the speech; clicks are shorter than 60 ms."""
_TOP, _BELOW = 0.98, 0.9
"""Shares of the peak: clipped sound piles up in the uppermost 2 %, all other sound (a pure tone most: 0.8 of what is in
the 8 % beneath) does not."""
_PILE = 1.5
_CHUNK = 1 << 18
_LOUD = 0.3
"""Peaks under this are far from any converter's limit."""


@dataclass(frozen=True)
class SoundFacts:
    """Result of :func:`sound_facts`."""

    active: Bool[np.ndarray, " steps"]
    """Speech (or any sound above the room's noise), one value every 20 ms."""
    level_db: Float[np.ndarray, " steps"]
    """Loudness, dB against full scale."""
    speech_share: float
    speech_s: float
    noise_db: float
    """Level of the speech above its pauses, treble stressed; 99 for digital silence."""
    clipped_share: float
    """Share of all samples."""


def sound_facts(samples: Float[np.ndarray, " S"]) -> SoundFacts:
    """Measure 16 kHz mono ``samples`` in [-1, 1]; memory stays flat when they are memory-mapped."""
    spectra = mel_spectra(_chunks(samples))
    active = speech_steps(spectra)
    square = spectra.mean_square.astype(np.float64)
    speech_s = float(active.sum()) * STEP_S
    return SoundFacts(
        active=active,
        level_db=10 * np.log10(np.maximum(square, 1e-10)),
        speech_share=float(active.mean()) if len(active) else 0.0,
        speech_s=speech_s,
        noise_db=_above_noise(square, active),
        clipped_share=clipped_share(samples),
    )


def speech_steps(spectra: MelSpectra) -> Bool[np.ndarray, " steps"]:
    """Steps louder than room and noise, pauses within words bridged."""
    active = normalise(spectra)[:].mean(-1) > _ACTIVE
    joined = binary_closing(np.pad(active, _BRIDGE), np.ones(_BRIDGE))[_BRIDGE:-_BRIDGE]
    return np.asarray(binary_opening(joined, np.ones(_SHORTEST)), bool)


def _above_noise(square: np.ndarray, active: np.ndarray) -> float:
    """Speech level over the quiet end of the recording (its lowest tenth that is not digital silence), dB."""
    if not active.any():
        return 0.0
    floor = float(np.percentile(square, 10))
    if floor < 1e-10:
        return 99.0
    return float(10 * np.log10(square[active].mean() / floor))


def clipped_share(samples: Float[np.ndarray, " S"]) -> float:
    """Share of samples that a converter or an encoder cut off at its limit."""
    peak = max((float(np.abs(chunk).max()) for chunk in _chunks(samples)), default=0.0)
    if peak < _LOUD:
        return 0.0
    counts = np.zeros(2)
    for chunk in _chunks(samples):
        size = np.abs(chunk)
        counts += (size > _BELOW * peak).sum(), (size > _TOP * peak).sum()
    below, top = (counts - [counts[1], 0]) / len(samples)
    return float(top) if top > _PILE * below else 0.0


def _chunks(samples: np.ndarray) -> Iterator[Float[np.ndarray, " n"]]:
    """A few seconds at a time."""
    return (samples[begin : begin + _CHUNK].astype(np.float32) for begin in range(0, len(samples), _CHUNK))


def most_spoken(active: Bool[np.ndarray, " steps"], part: tuple[float, float], seconds: float) -> tuple[float, float]:
    """The window of ``seconds`` within ``part`` (begin, end) that holds the most speech."""
    begin, end = part
    if end - begin <= seconds:
        return part
    steps, first = round(seconds / STEP_S), round(begin / STEP_S)
    inside = np.concatenate([active, np.zeros(max(round(end / STEP_S) - len(active), 0), bool)])
    total = np.cumsum(np.concatenate([[0], inside[first : round(end / STEP_S)].astype(int)]))
    if len(total) <= steps:
        return begin, begin + seconds
    begin += int((total[steps:] - total[:-steps]).argmax()) * STEP_S
    return begin, begin + seconds
