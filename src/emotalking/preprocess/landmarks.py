"""Landmarks of the main face, frame after frame: the layout of the points, and MediaPipe's face mesh (Apache-2.0)."""

from collections.abc import Sequence
from itertools import takewhile
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
_BATCH = {"cpu": 8, "cuda": 32}
"""Frames that are read together; on a CPU, eight take half of the time of eight alone."""
_DRIFT = 0.025
"""Shift, change of size (shares of the side) and turn (radians) of a square beyond which a frame is read again."""
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

    def detect_many(self, images: Sequence[UInt8[np.ndarray, "H W 3"]]) -> list[Float32[np.ndarray, "K 3"] | None]:
        """The same for frames in order, several at a time."""
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

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)
        self._network = open_graph("face_mesh", self._device)
        self._region: Region | None = None

    def detect(self, image: UInt8[np.ndarray, "H W 3"]) -> Float32[np.ndarray, "K 3"] | None:
        """See :class:`LandmarkProvider`."""
        points = None if self._region is None else self._read([image], [self._region])[0]
        if points is None and (found := FACES.find(image, _FACE_SCORE)):
            points = self._read([image], [_around(found[0].box, found[0].points[0], found[0].points[1])])[0]
        self._region = None if points is None else _face_region(points)
        return points

    def detect_many(self, images: Sequence[UInt8[np.ndarray, "H W 3"]]) -> list[Float32[np.ndarray, "K 3"] | None]:
        """See :class:`LandmarkProvider`.

        The frames of a batch are read in the square of the frame before them, and those from which the face has moved
        away since are read again, each in the square of its own predecessor.
        """
        found: list[np.ndarray | None] = []
        while len(found) < len(images):
            rest, before = images[len(found) :], self._region
            seen = [] if before is None else self._follow(rest[: _BATCH[self._device.type]], before)
            found += seen or [self.detect(rest[0])]
        return found

    def _follow(self, images: Sequence[np.ndarray], before: Region) -> list[Float32[np.ndarray, "K 3"]]:
        """Points of the first of these frames, as far as the face is not lost."""
        seen = _until_lost(self._read(images, [before] * len(images)))
        squares = [before, *map(_face_region, seen[:-1])]
        moved = [i for i in range(len(seen)) if _far(squares[i], before)]
        again = self._read([images[i] for i in moved], [squares[i] for i in moved])
        seen = _until_lost([again[moved.index(i)] if i in moved else points for i, points in enumerate(seen)])
        if seen:
            self._region = _face_region(seen[-1])
        return seen

    def _read(self, images: Sequence[np.ndarray], regions: Sequence[Region]) -> list[Float32[np.ndarray, "K 3"] | None]:
        """Points of the face in each image's region; None where it shows none."""
        if not images:
            return []
        crops = [
            region.crop(image, _PIXELS, cv2.BORDER_REPLICATE) for image, region in zip(images, regions, strict=True)
        ]
        found = self._network(torch.cat(crops).to(self._device))
        present = (torch.sigmoid(found["presence"]).flatten() >= _PRESENT).tolist()
        faces = found["points"].cpu().numpy().astype(np.float64) / _PIXELS
        return [
            np.column_stack([region.to_image(face[:, :2]), face[:, 2] * region.side]).astype(np.float32)
            if there
            else None
            for face, region, there in zip(faces, regions, present, strict=True)
        ]

    def close(self) -> None:
        """See :class:`LandmarkProvider`."""
        self._region = None


def _until_lost(points: Sequence[np.ndarray | None]) -> list[Float32[np.ndarray, "K 3"]]:
    return [one for one in takewhile(lambda one: one is not None, points) if one is not None]


def _face_region(points: Float32[np.ndarray, "K 3"]) -> Region:
    """The square in which the next frame's face is sought."""
    return _around(Box.around(points[:, :2]), *points[list(_EYES), :2])


def _far(one: Region, other: Region) -> bool:
    shift = max(abs(one.x - other.x), abs(one.y - other.y), abs(one.side - other.side))
    return shift > _DRIFT * other.side or abs(one.angle - other.angle) > _DRIFT


def _around(box: Box, right_eye: Float[np.ndarray, "2"], left_eye: Float[np.ndarray, "2"]) -> Region:
    return Region(*box.centre, _MARGIN * max(box.width, box.height), level_angle(right_eye, left_eye))


def open_provider(device: torch.device | str = "cpu") -> LandmarkProvider:
    """The detector of landmarks that everything but an evaluation of one's own uses."""
    return MediaPipeMesh(device)
