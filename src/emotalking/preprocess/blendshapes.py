"""The 52 blendshapes of ARKit's names from face landmarks, by MediaPipe's network (Apache-2.0).

A network of 146 landmarks (Grishchenko et al. 2023, arXiv 2309.05782). It normalises position and size itself.
"""

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from emotalking.networks.mediapipe.graph import open_graph
from emotalking.preprocess.steps import map_frames

BLENDSHAPES = (
    "_neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight",
)  # fmt: skip
"""Names in the network's order; left and right are the person's."""

_POINTS = (
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66, 67, 70, 78, 80,
    81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144, 145, 146, 148, 149, 150, 152, 153,
    154, 155, 157, 158, 159, 160, 161, 162, 163, 168, 172, 173, 176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251,
    263, 267, 269, 270, 276, 282, 283, 284, 285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318,
    321, 323, 324, 332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380, 381, 382, 384, 385, 386,
    387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466, 468, 469, 470, 471, 472, 473, 474, 475, 476, 477,
)  # fmt: skip
"""Points of the layout "mediapipe478" that the network reads."""
_BATCH = 64


def read_blendshapes(points: Float[np.ndarray, "N 478 2"]) -> Float32[np.ndarray, "N 52"]:
    """Scores 0..1 of :data:`BLENDSHAPES`, each frame for itself; NaN where the points are.

    Args:
        points: landmarks of the layout "mediapipe478", pixels, as detected.
    """
    network = open_graph("blendshapes")
    faces = torch.from_numpy(np.ascontiguousarray(points[:, list(_POINTS)], np.float32))

    def score(_: int, batch: Tensor) -> Tensor:
        return next(iter(network(batch).values())).reshape(len(batch), -1)

    scores = list(map_frames((batch for batch in faces.split(_BATCH) if len(batch)), score, shared=True))
    return torch.cat(scores).numpy() if scores else np.zeros((0, len(BLENDSHAPES)), np.float32)
