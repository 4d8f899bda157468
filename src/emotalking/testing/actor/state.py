"""State commanded for a frame of the actor, and the rendered frame with its ground truth."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float32, UInt8

BACKGROUND, HEAD, HAIR, MOUTH, NECK, TORSO = range(6)
"""Same numbers as ``data.labels.Label`` (this package may import ``ops`` only; a test checks that they agree)."""

MODEL_AUS = ("AU01", "AU04", "AU05", "AU06", "AU07", "AU45")
"""Action units that condition an avatar, in its order."""
ACTOR_AUS = (
    "AU01", "AU02", "AU04", "AU05", "AU06", "AU07", "AU09", "AU12", "AU15", "AU17", "AU20", "AU23", "AU43", "AU45",
)  # fmt: skip
"""Every action unit of the actor. AU43 is the drooping of the lids (5 = half closed), AU45 the blink (2 = shut)."""


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
    """Classes of ``data.labels.Label``."""
    teeth: Bool[np.ndarray, "H W"]
    normals: Float32[np.ndarray, "H W 3"]
    """Unit normals of head, hair and mouth in camera space (OpenCV axes, so z < 0 faces the camera); else zero."""
    torso: UInt8[np.ndarray, "H W 4"]
    """Neck and clothes without the head before them, straight (not premultiplied) colours."""
    background: UInt8[np.ndarray, "H W 3"]
    landmarks: Float32[np.ndarray, "K 2"]
    """Points of :data:`emotalking.testing.actor.landmarks.ActorLayout` in pixels, hidden ones too."""
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
