"""The clip's part of small avatars."""

from fractions import Fraction
from typing import Any

import numpy as np

from emotalking.models.scene import Scene, TorsoStack, encode_torso


def still_scene(
    width: int,
    height: int,
    *,
    frames: int = 3,
    distance: float | np.ndarray = 0.7,
    grey: int = 90,
    torso: tuple[int, tuple[int, int, int]] | None = None,
    **more: Any,
) -> Scene:
    """Frames of a head that faces the camera and rests.

    Args:
        distance: of the head, world units; of each frame, or the same.
        grey: level of the background.
        torso: first row and colour of an opaque torso; None: nothing of it is seen.
        more: other fields of the scene.
    """
    viewmats = np.tile(np.diag([1.0, -1.0, -1.0, 1.0]).astype(np.float32), (frames, 1, 1))
    viewmats[:, 2, 3] = distance
    layer = np.zeros((height, width, 4), np.uint8)
    if torso is not None:
        layer[torso[0] :] = (*torso[1], 255)
    facts = {
        "fps": Fraction(25),
        "focal": 100.0,
        "viewmats": viewmats,
        "aus": np.zeros((frames, 6), np.float32),
        "va": np.zeros((frames, 2), np.float32),
        "background": np.full((height, width, 3), grey, np.uint8),
        "torso": TorsoStack.encode([encode_torso(layer)] * frames),
    }
    return Scene(width=width, height=height, **facts | more)
