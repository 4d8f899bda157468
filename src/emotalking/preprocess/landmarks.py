"""Landmarks of the main face, frame after frame: the layout of the points, and MediaPipe's face mesh (Apache-2.0)."""

from typing import Protocol, runtime_checkable

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8

from emotalking.data.layouts import FaceLayout
from emotalking.networks.mediapipe.graph import open_graph
from emotalking.ops.box import Box
from emotalking.preprocess.detectors import FACES
from emotalking.preprocess.regions import Region, level_angle

_RIGHT_UPPER_LID = (33, 246, 161, 160, 159, 158, 157, 173, 133)
_RIGHT_LOWER_LID = (33, 7, 163, 144, 145, 153, 154, 155, 133)
_LEFT_UPPER_LID = (263, 466, 388, 387, 386, 385, 384, 398, 362)
_LEFT_LOWER_LID = (263, 249, 390, 373, 374, 380, 381, 382, 362)
_OVAL = (
    (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377)
    + (152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)
)  # fmt: skip
_RIGID = (
    (168, 6, 197, 195, 5, 4, 1)  # nose ridge
    + (122, 351, 196, 419, 236, 456, 193, 417)  # sides of the nose bridge
    + (33, 133, 362, 263)  # eye corners
    + (10, 151, 9, 8, 109, 338, 67, 297, 103, 332, 54, 284, 108, 337)  # forehead
    + (21, 251, 162, 389, 127, 356, 71, 301)  # temples
    + (143, 372, 35, 265)  # outer rims of the eye sockets
)
_IBUG68 = (
    (127, 234, 132, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 361, 454, 356)  # jaw
    + (70, 63, 105, 66, 107, 336, 296, 334, 293, 300)  # brows
    + (168, 197, 5, 4, 98, 97, 2, 326, 327)  # nose
    + (33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380)  # eyes
    + (61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91)  # outer lips
    + (78, 81, 13, 311, 308, 402, 14, 178)  # inner lips
)  # fmt: skip

MEDIAPIPE_LAYOUT = FaceLayout(
    name="mediapipe478",
    right_upper_lid=_RIGHT_UPPER_LID,
    right_lower_lid=_RIGHT_LOWER_LID,
    left_upper_lid=_LEFT_UPPER_LID,
    left_lower_lid=_LEFT_LOWER_LID,
    right_brow=(70, 63, 105, 66, 107),
    left_brow=(300, 293, 334, 296, 336),
    lips_outer=(61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146),
    lips_inner=(78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95),
    oval=_OVAL,
    nose=(168, 6, 197, 195, 5, 4),
    right_iris=(468, 469, 470, 471, 472),
    left_iris=(473, 474, 475, 476, 477),
    rigid=_RIGID,
    ibug68=_IBUG68,
)
"""MediaPipe's 478 face points by name, in the published numbering of its face mesh (468 points) and irises (5 each)."""

_FACE_SCORE = 0.5
_PRESENT = 0.5
_PIXELS = 192
"""Side of the mesh's input."""
_MARGIN = 1.5
"""Side of the square given to the mesh, in longer sides of the box around the face."""
_EYES = (33, 263)
"""Outer corners of the eyes, the person's right first: the square is turned with them."""


@runtime_checkable
class LandmarkProvider(Protocol):
    """Detector of the landmarks of the main face, frame after frame."""

    @property
    def name(self) -> str:
        """Name in subject.json."""
        ...

    @property
    def layout(self) -> FaceLayout:
        """Meaning of the points."""
        ...

    def detect(self, image: UInt8[np.ndarray, "H W 3"]) -> Float32[np.ndarray, "K 3"] | None:
        """x, y, z in pixels (z: smaller is nearer, about the scale of x), or None if there is no face."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...


class MediaPipeMesh:
    """MediaPipe's face mesh with irises: follows the face, and detects it again in a frame where it was lost.

    The attention mesh (Grishchenko et al. 2020, arXiv 2006.10962): 468 points of a turned square around the face, and
    a second look at lips and eyes. Nothing is smoothed over time.
    """

    name = "mediapipe-facemesh"
    layout = MEDIAPIPE_LAYOUT

    def __init__(self) -> None:
        self._network = open_graph("face_mesh")
        self._region: Region | None = None

    def detect(self, image: UInt8[np.ndarray, "H W 3"]) -> Float32[np.ndarray, "K 3"] | None:
        """See :class:`LandmarkProvider`."""
        points = None if self._region is None else self._read(image, self._region)
        if points is None and (found := FACES.find(image, _FACE_SCORE)):
            points = self._read(image, _around(found[0].box, found[0].points[0], found[0].points[1]))
        if points is None:
            self._region = None
            return None
        self._region = _around(Box.around(points[:, :2]), *points[list(_EYES), :2])
        return points

    def _read(self, image: np.ndarray, region: Region) -> Float32[np.ndarray, "K 3"] | None:
        """Points of the face in a region; None if it shows none."""
        found = self._network(region.crop(image, _PIXELS, cv2.BORDER_REPLICATE))
        if float(torch.sigmoid(found["presence"])) < _PRESENT:
            return None
        points = found["points"][0].numpy().astype(np.float64) / _PIXELS
        return np.column_stack([region.to_image(points[:, :2]), points[:, 2] * region.side]).astype(np.float32)

    def close(self) -> None:
        """See :class:`LandmarkProvider`."""
        self._region = None


def _around(box: Box, right_eye: Float[np.ndarray, "2"], left_eye: Float[np.ndarray, "2"]) -> Region:
    return Region(*box.centre, _MARGIN * max(box.width, box.height), level_angle(right_eye, left_eye))


def open_provider() -> LandmarkProvider:
    """The detector of landmarks that everything but an evaluation of one's own uses."""
    return MediaPipeMesh()
