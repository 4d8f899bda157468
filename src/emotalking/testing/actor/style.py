"""Appearance of the actor: proportions, colours, hair and clothes of a synthetic person."""

from dataclasses import dataclass
from typing import Literal

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class ActorStyle:
    """Identity of a synthetic actor; every field is a plain number so that new people are one line each."""

    name: str = "robin"
    skin: Colour = (0.86, 0.66, 0.54)
    """Albedo of the cheek, RGB in [0, 1]."""
    blush: float = 0.5
    """Redness of cheeks, nose and ears, 0..1."""
    lips: Colour = (0.70, 0.38, 0.36)
    hair: Colour = (0.24, 0.145, 0.085)
    brows: Colour = (0.17, 0.105, 0.07)
    iris: Colour = (0.30, 0.42, 0.44)
    cloth: Colour = (0.20, 0.29, 0.40)
    cloth_accent: Colour = (0.90, 0.89, 0.86)
    background: Colour = (0.62, 0.67, 0.70)
    hair_style: Literal["short", "long", "cropped"] = "short"
    beard: float = 0.0
    """Strength of a short beard, 0 (shaven) to 1."""
    glasses: bool = False
    lashes: float = 0.6
    """Length and darkness of the lashes, 0..1."""
    face_width: float = 1.0
    """Multiplier of the face's width."""
    jaw_width: float = 1.0
    """Multiplier of the width below the mouth."""
    nose_size: float = 1.0
    eye_size: float = 1.0
    """Multiplier of the lid opening's height."""
    lip_fullness: float = 1.0
    brow_thickness: float = 1.0
    brow_angle: float = 0.0
    """Rise of the brow's tail in metres (about +-0.003)."""


ROBIN = ActorStyle()
"""Short brown side-parted hair, grey-green eyes, navy crew-neck."""

MAYA = ActorStyle(
    name="maya",
    skin=(0.66, 0.45, 0.33),
    blush=0.45,
    lips=(0.62, 0.27, 0.28),
    hair=(0.085, 0.06, 0.05),
    brows=(0.075, 0.05, 0.04),
    iris=(0.26, 0.15, 0.08),
    cloth=(0.56, 0.20, 0.22),
    cloth_accent=(0.93, 0.86, 0.78),
    background=(0.70, 0.66, 0.60),
    hair_style="long",
    lashes=1.0,
    face_width=0.97,
    jaw_width=0.92,
    nose_size=0.9,
    eye_size=1.07,
    lip_fullness=1.22,
    brow_thickness=0.8,
    brow_angle=0.0015,
)
"""Long dark hair, brown eyes, red jumper."""

OTTO = ActorStyle(
    name="otto",
    skin=(0.89, 0.71, 0.61),
    blush=0.7,
    lips=(0.72, 0.43, 0.40),
    hair=(0.40, 0.26, 0.15),
    brows=(0.30, 0.19, 0.11),
    iris=(0.25, 0.40, 0.58),
    cloth=(0.25, 0.34, 0.27),
    cloth_accent=(0.82, 0.80, 0.74),
    background=(0.60, 0.63, 0.60),
    hair_style="cropped",
    beard=0.85,
    glasses=True,
    lashes=0.5,
    face_width=1.02,
    jaw_width=1.06,
    nose_size=1.12,
    eye_size=0.95,
    lip_fullness=0.9,
    brow_thickness=1.15,
)
"""Cropped sandy hair, beard and glasses, green jumper."""

STYLES = {style.name: style for style in (ROBIN, MAYA, OTTO)}
"""The ready-made people by name."""
