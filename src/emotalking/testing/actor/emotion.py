"""Smooth map from valence and arousal to action units, after FACS descriptions of emotions."""

from collections.abc import Mapping

import numpy as np

from emotalking.testing.actor.state import ACTOR_AUS

_SHARP = 9.0
"""Steepness of the half-axis ramps: the larger, the closer to max(x, 0)."""

_TERMS = ("v+", "v-", "a+", "a-", "v+a+", "v-a+", "v-a-", "v+a-")
_INTENSITY: dict[str, dict[str, float]] = {
    # surprise raises the brows, fear and sadness their inner ends, anger keeps them down
    "AU01": {"a+": 4.0, "v-a+": -3.0, "v-a-": 11.0},
    "AU02": {"a+": 3.8, "v-a+": -6.0},
    "AU04": {"v-": 4.2, "v-a+": 3.0, "v-a-": -3.0},
    "AU05": {"a+": 5.0},
    "AU06": {"v+": 4.4, "v+a+": 0.5, "v-a+": 0.5},
    "AU07": {"v-": 0.8, "v-a+": 3.5, "v+a-": 1.0},
    "AU09": {"v-a+": 4.5},
    "AU12": {"v+": 4.6, "v+a+": 1.0},
    "AU15": {"v-": 2.6, "v-a-": 4.0},
    "AU17": {"v-a-": 4.0},
    "AU20": {"v-a+": 5.0},
    "AU23": {"v-a+": 2.0},
    "AU43": {"a-": 4.4},
}
"""OpenFace intensity a term adds where the term is 1."""

_TABLE = np.array([[_INTENSITY.get(name, {}).get(term, 0.0) for term in _TERMS] for name in ACTOR_AUS])
JAW_OF_AROUSAL = 0.22
"""Opening of the jaw (viseme units) that full arousal adds: surprise and fear drop it."""


def _ramp(x: float) -> float:
    """Smooth max(x, 0)."""
    return float(np.logaddexp(0.0, _SHARP * x)) / _SHARP


def emotional_aus(valence: float, arousal: float) -> dict[str, float]:
    """Action units of an emotion.

    Source: FACS descriptions of the basic emotions (happiness 6+12, surprise 1+2+5+26, fear 1+2+4+5+20, anger
    4+5+7+23 with 9, sadness 1+4+15+17), placed around the circumplex and mixed smoothly; low arousal lets the lids
    droop (43). Opposites on one axis balance, so the deformation is smooth through neutral.

    Args:
        valence: [-1, 1].
        arousal: [-1, 1].

    Returns:
        Intensities by name, -0.6..5, all of :data:`ACTOR_AUS` but the blink; a slightly negative one relaxes the tone
        that the face has at rest.

    Raises:
        ValueError: outside of [-1, 1].
    """
    if not (-1 <= valence <= 1 and -1 <= arousal <= 1):
        raise ValueError(f"valence, arousal: expected in [-1, 1], got {valence}, {arousal}")
    vp, vn = _ramp(valence), _ramp(-valence)
    ap, an = _ramp(arousal), _ramp(-arousal)
    terms = np.array([vp, vn, ap, an, vp * ap, vn * ap, vn * an, vp * an])
    rest = np.array([_ramp(0.0)] * 4 + [_ramp(0.0) ** 2] * 4)
    values = np.clip(_TABLE @ (terms - rest), -0.6, 5.0)
    return {name: float(value) for name, value in zip(ACTOR_AUS, values, strict=True) if name != "AU45"}


def visible_aus(aus: Mapping[str, float], valence: float, arousal: float) -> dict[str, float]:
    """Commanded action units and those of the emotion together, each at most 5 (slightly negative: relaxed)."""
    emotional = emotional_aus(valence, arousal)
    return {name: min(float(aus.get(name, 0.0)) + emotional.get(name, 0.0), 5.0) for name in ACTOR_AUS}
