"""Valence and arousal of recorded frames from action units: the embedded estimator."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, Float32
from scipy.ndimage import gaussian_filter1d, median_filter

from emotalking.data.files import EMOTION_FROM_UNITS
from emotalking.emotion.circumplex import PRESETS

PROTOTYPES: dict[str, tuple[str, ...]] = {
    "happy": ("AU06", "AU12"),
    "surprised": ("AU01", "AU02", "AU05"),
    "afraid": ("AU01", "AU02", "AU04", "AU05", "AU20"),
    "angry": ("AU04", "AU05", "AU07", "AU23"),
    "disgusted": ("AU09", "AU10", "AU15"),
    "sad": ("AU01", "AU04", "AU15", "AU17"),
    "tired": ("AU43",),
}
"""Action units of emotions: the prototypes of EMFACS (Friesen and Ekman, 1983) and of the FACS Investigator's Guide.

Deviation: the prototypes' open jaw (AU25, AU26) is left out, since talking opens it too; tired lids
(AU43) are added, because all prototypes but sadness lie at positive arousal.
"""
_SMOOTHING_S = 0.5
"""Width of the temporal low-pass (about two standard deviations)."""
_TYPICAL = 3.0
"""Intensity of each unit at which a prototype reaches its place on the circumplex (FACS level C, of 5)."""
_RIDGE = 0.15
"""Damping of the solution, in squared shares of a prototype: units that several emotions share get small weights."""


ACTED_GAIN = 2.0
"""Factor by which valence and arousal of :class:`ActionUnitEmotion` fall short on nine acted clips, whose places on the
circumplex are known: least squares give 2.2 (valence) and 3.5 (arousal), on synthetic actors 1.5
(benchmarks/results/estimator_error.json)."""


FULL_PERCENTILE = 75.0
"""Of the readings of a clip that shows a named emotion: from this distance to neutral on it shows all of it."""
LEAST_READING = 0.1
"""A clip whose readings do not get so far from neutral shows something that the estimator does not see."""


def at_place(va: Float[np.ndarray, "N 2"], place: Sequence[float]) -> Float32[np.ndarray, "N 2"]:
    """Valence and arousal of a clip that shows a named emotion, at whose ``place`` that emotion is commanded.

    What somebody set out to show is known better than it is read: one woman's anger, fear and surprise were read
    within .37 of each other, her surprise .79 from where surprise is commanded (means of clips). So the reading tells
    only how much of it a frame shows, against the clip's stronger frames: a face still at rest is neutral.

    Args:
        va: readings, from the person's neutral.
        place: valence and arousal of the emotion.
    """
    away = np.linalg.norm(va, axis=1)
    full = float(np.percentile(away, FULL_PERCENTILE))
    share = np.minimum(away / full, 1.0) if full >= LEAST_READING else np.ones(len(va))
    return (share[:, None] * np.asarray(place)).astype(np.float32)


@cache
def unit_weights() -> tuple[tuple[str, ...], Float[np.ndarray, "U 2"]]:
    """Names of the units, and their weights for valence and arousal per intensity (before squashing).

    The smallest weights (ridge regression) with which the sum over a prototype's units gives the place of that emotion
    in :data:`emotalking.emotion.circumplex.PRESETS`; it is not fitted to data or to another model.
    """
    names = tuple(sorted({name for units in PROTOTYPES.values() for name in units}))
    active = np.array([[float(name in units) for name in names] for units in PROTOTYPES.values()])
    places = np.arctanh(np.array([PRESETS[emotion] for emotion in PROTOTYPES]))
    damped = active @ active.T + _RIDGE * np.eye(len(active))
    return names, active.T @ np.linalg.solve(damped, places) / _TYPICAL


@dataclass(frozen=True)
class ActionUnitEmotion:
    """Coarse valence and arousal from action units; no network, no weights.

    Deviation: the paper reads EmoNet. Here the units' weights follow from the facial prototypes of emotions and their
    places on the circumplex (:func:`unit_weights`). Talking is taken out by a low-pass. What the landmarks do not show
    (tears, blushing, a furrow, the voice) is ignored: the result orders the frames of one person better than it
    compares persons.
    """

    @property
    def name(self) -> str:
        """``action-units``."""
        return EMOTION_FROM_UNITS

    def estimate(self, aus: Mapping[str, Float[np.ndarray, " N"]], fps: float | int = 25) -> Float32[np.ndarray, "N 2"]:
        """Valence and arousal per frame, each in (-1, 1), smooth over time; a face at rest is at 0, 0.

        Args:
            aus: intensities 0..5 by name, from the same person's rest; a unit that is absent counts as zero (OpenFace
                has no AU43).
            fps: frame rate.

        Raises:
            ValueError: if no unit is known, their lengths differ, or a value is not finite.
        """
        names, weights = unit_weights()
        known = {name: np.asarray(aus[name], np.float64) for name in names if name in aus}
        lengths = {len(values) for values in known.values()}
        if len(lengths) != 1:
            raise ValueError(f"aus: expected units of one common length among {', '.join(names)}, got {sorted(aus)}")
        count = lengths.pop()
        units = np.stack([known.get(name, np.zeros(count)) for name in names], 1)
        if not np.isfinite(units).all():
            raise ValueError("aus must be finite: fill frames without a face before")
        if count == 0:
            return np.zeros((0, 2), np.float32)
        # A blink is shorter than the median's window; words are shorter than the Gaussian.
        window = min(2 * round(0.2 * fps) + 1, 2 * count - 1)
        units = median_filter(units, size=(max(window, 1), 1), mode="nearest")
        units = gaussian_filter1d(units, _SMOOTHING_S * fps / 2, axis=0, mode="nearest")
        return np.tanh(units @ weights).astype(np.float32)
