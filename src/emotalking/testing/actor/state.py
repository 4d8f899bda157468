"""State commanded for a frame of the actor, the action units of its emotion, and the rendered frame with its truth."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float32, UInt8

MODEL_AUS = ("AU01", "AU04", "AU05", "AU06", "AU07", "AU45")
"""Action units that condition an avatar, in its order."""
ACTOR_AUS = (
    "AU01", "AU02", "AU04", "AU05", "AU06", "AU07", "AU09", "AU12", "AU15", "AU17", "AU20", "AU23", "AU43", "AU45",
)  # fmt: skip
"""Every action unit of the actor. AU43 is the drooping of the lids (5 = half closed), AU45 the blink (2 = shut)."""

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


@dataclass(frozen=True)
class Viseme:
    """Shape of the speaking mouth."""

    jaw: float = 0.0
    """Opening of the jaw, 0 (shut) to 1 (about 20 mm between the lips)."""
    width: float = 0.0
    """Mouth corners, -1 (narrow) to 1 (wide)."""
    pucker: float = 0.0
    """Rounding and protrusion of the lips, 0 to 1."""
    press: float = 0.0
    """Lips pressed together against the jaw, 0 to 1 (1 closes the lips whatever the jaw does)."""

    def array(self) -> Float32[np.ndarray, "4"]:
        """``(jaw, width, pucker, press)``."""
        return np.array([self.jaw, self.width, self.pucker, self.press], np.float32)


@dataclass(frozen=True)
class ActorState:
    """Commanded state of one frame."""

    viewmat: Float32[np.ndarray, "4 4"]
    """World-to-camera, OpenCV axes; the world is the head."""
    aus: Mapping[str, float] = field(default_factory=dict)
    """OpenFace intensities 0..5 by name (:data:`ACTOR_AUS`), in addition to those of the emotion; absent ones are 0."""
    viseme: Viseme = Viseme()
    valence: float = 0.0
    arousal: float = 0.0
    gaze: tuple[float, float] = (0.0, 0.0)
    """Eye direction ``(yaw, pitch)`` in the head, radians; positive to the person's left and upwards."""
    emotional_jaw: bool = True
    """Arousal drops the jaw a little; False leaves the opening of the lips to the viseme, as in emotional training
    targets."""
    emotional_tint: bool = True
    """Emotion reddens the cheeks and darkens the furrow between the brows; False changes the shape only, as in
    warped targets."""
    torso_shift: tuple[float, float] = (0.0, 0.0)
    """Sway of the shoulders in the image, metres at the neck's depth: right and up."""


@dataclass(frozen=True)
class ActorFrame:
    """A rendered frame with its ground truth; pixels and points as in docs/conventions.md."""

    image: UInt8[np.ndarray, "H W 3"]
    labels: UInt8[np.ndarray, "H W"]
    """Classes (:class:`emotalking.data.labels.Label`)."""
    teeth: Bool[np.ndarray, "H W"]
    normals: Float32[np.ndarray, "H W 3"]
    """Unit normals of head, hair and mouth in camera space (OpenCV axes, so z < 0 faces the camera); else zero."""
    torso: UInt8[np.ndarray, "H W 4"]
    """Neck and clothes without the head before them, straight (not premultiplied) colours."""
    background: UInt8[np.ndarray, "H W 3"]
    landmarks: Float32[np.ndarray, "K 2"]
    """Points of :data:`emotalking.data.layouts.FaceLayout` in pixels, hidden ones too."""
    landmarks_world: Float32[np.ndarray, "K 3"]
    """The same points on the deformed face, head frame."""
    K: Float32[np.ndarray, "3 3"]
    state: ActorState
    """Commanded state: pose, commanded action units, viseme, valence and arousal, gaze."""
    aus: Mapping[str, float]
    """Visible action units, 0..5: the commanded ones and those of the emotion together."""

    @property
    def model_aus(self) -> Float32[np.ndarray, "6"]:
        """The commanded action units in the order :data:`MODEL_AUS` (AU45 clipped to [0, 2])."""
        values = [float(self.state.aus.get(name, 0.0)) for name in MODEL_AUS]
        values[-1] = min(max(values[-1], 0.0), 2.0)
        return np.array(values, np.float32)


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
