"""Valence/arousal plane: named emotions, the evaluation's test points, and checks of user input.

Training draws its own points (``train.targets``); ``emotion.mesh_warp.expressions`` turns a point into action units.
"""

import math
import re
from dataclasses import dataclass

from emotalking.errors import InputError

PRESETS: dict[str, tuple[float, float]] = {
    "neutral": (0.0, 0.0),
    "happy": (0.74, 0.31),
    "excited": (0.57, 0.57),
    "surprised": (0.31, 0.74),
    "afraid": (-0.31, 0.74),
    "angry": (-0.74, 0.31),
    "disgusted": (-0.72, 0.14),
    "contemptuous": (-0.73, -0.14),
    "sad": (-0.74, -0.31),
    "bored": (-0.31, -0.60),
    "tired": (-0.05, -0.75),
    "calm": (0.31, -0.60),
    "content": (0.70, -0.25),
}
"""Named emotions as (valence, arousal).

The order around the circle is Russell's (A circumplex model of affect, 1980): happy, excited, surprised, afraid, angry,
disgusted, contemptuous, sad, bored, tired, calm, content. The basic ones sit on the paper's test points (docs/paper.md
9.3) rather than on measured ratings: Russell and Mehrabian (1977) rate fear and anger with nearly the same valence and
arousal (they differ in a third number, dominance), so two numbers cannot distinguish their ratings. Contempt, which
Russell does not place, has the narrow sector between disgust and sadness: unpleasant and cool, a corner of the mouth
drawn up.
"""


@dataclass(frozen=True)
class TestPoint:
    """One commanded point of the emotion evaluation and the emotion that a classifier should then read."""

    __test__ = False  # not a pytest class

    valence: float
    arousal: float
    label: str


def _ring(radius: float, first_deg: float, step_deg: float, labels: tuple[str, ...]) -> tuple[TestPoint, ...]:
    angles = [math.radians(first_deg + step_deg * k) for k in range(len(labels))]
    return tuple(
        TestPoint(radius * math.cos(angle), radius * math.sin(angle), label)
        for angle, label in zip(angles, labels, strict=True)
    )


TEST_POINTS: tuple[TestPoint, ...] = (
    *_ring(0.8, 22.5, 45.0, ("happy", "surprise", "fear", "anger", "sad", "sad", "neutral", "happy")),
    *_ring(0.5, 45.0, 90.0, ("happy", "anger", "sad", "neutral")),
)
"""The twelve points of docs/paper.md 9.3, as inferred there: radius 0.8 at 22.5 + 45 k degrees, 0.5 at 45 + 90 k.

Deviation: the paper does not print its label per point; these labels are our own, so the accuracy based on them is
not comparable with the paper's.
"""


def preset(name: str) -> tuple[float, float]:
    """Valence and arousal of a named emotion (case does not matter).

    Raises:
        InputError: for an unknown name; the message lists the names.
    """
    found = PRESETS.get(name.strip().lower())
    if found is None:
        raise InputError(f'unknown emotion "{name.strip()}": use one of {", ".join(PRESETS)}')
    return found


def emotion_in(name: str) -> str | None:
    """The emotion that a clip's name says, as ``angry`` and ``02_Angry_loud`` do; None without one, or with several."""
    found = PRESETS.keys() & set(re.findall("[a-z]+", name.lower()))
    return found.pop() if len(found) == 1 else None


def check_va(valence: float, arousal: float, where: str = "") -> tuple[float, float]:
    """Check a point of the plane.

    Args:
        valence: unpleasant -1 .. pleasant 1.
        arousal: calm -1 .. excited 1.
        where: place to name in the message, such as "track.csv line 3".

    Raises:
        InputError: unless both are finite and in [-1, 1].
    """
    for name, value in (("valence", valence), ("arousal", arousal)):
        if not -1.0 <= value <= 1.0:
            prefix = f"{where}: " if where else ""
            raise InputError(f"{prefix}{name} is {value:g} but must lie between -1 and 1")
    return float(valence), float(arousal)
