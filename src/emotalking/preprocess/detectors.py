"""Faces and hands in single images, by MediaPipe's detectors (Apache-2.0, :mod:`emotalking.networks.mediapipe`).

The detectors are single-shot (BlazeFace: Bazarevsky et al. 2019, arXiv 1907.05047): every cell of a grid gives scores
and, relative to the cell's centre, boxes with key points; overlapping ones are averaged, weighted by their scores.
"""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

from emotalking.networks.mediapipe.graph import open_graph
from emotalking.ops.box import Box
from emotalking.preprocess.regions import Region, level_angle

OTHER_FACE = 0.4
"""A face of a poster is much smaller than the speaker's: less than this share of the height does not count."""
_FACE_SCORE = 0.6
"""Blank walls give weak detections."""
_WEAK_SCORE = 0.2
_HAND_SCORE = 0.6
_HAND_PRESENT = 0.5
_MOST_HANDS = 2
_GAP = 0.12
"""Hands nearer to the face than this share of its height are about to cover it."""
_OVERLAP = 0.3
"""Share of intersection over union from which two boxes are of one object."""
_WRIST, _MIDDLE_FINGER = 0, 2
"""Key points of a palm: the wrist, and the root of the middle finger."""
_HAND_SIDE, _HAND_SHIFT = 2.6, 0.5
"""Side of a hand's square and its shift towards the fingers, in sides of the palm's box."""


@dataclass(frozen=True)
class Found:
    """A detected object; pixels."""

    box: Box
    points: Float[np.ndarray, "P 2"]
    """Key points: of a face both eyes, the person's right first, nose, mouth, ears."""
    score: float


@dataclass(frozen=True)
class Detector:
    """A single-shot detector."""

    network: str
    pixels: int
    """Side of its input."""
    cells: tuple[tuple[int, int], ...]
    """Cells a side of each grid, and predictions per cell."""
    lowest: float
    """Value of a black pixel in its input; a white one is 1."""

    @cached_property
    def centres(self) -> Float[np.ndarray, "A 2"]:
        """Centre of every prediction's cell, as a share of the input's side."""
        grids = []
        for side, count in self.cells:
            rows, columns = np.indices((side, side)).reshape(2, -1)
            grids.append(np.repeat((np.stack([columns, rows], 1) + 0.5) / side, count, 0))
        return np.concatenate(grids)

    def find(self, image: UInt8[np.ndarray, "H W 3"], least: float) -> list[Found]:
        """Objects with at least the score ``least``, the surest first."""
        region = Region.whole(image)
        shown = region.crop(image, self.pixels, cv2.BORDER_CONSTANT)
        places, logits = open_graph(self.network)(self.lowest + (1 - self.lowest) * shown).values()
        scores = torch.sigmoid(logits[0, :, 0]).numpy()
        good = scores >= least
        rows = places[0].numpy().reshape(len(scores), -1, 2)[good] / self.pixels
        rows[:, [0, *range(2, rows.shape[1])]] += self.centres[good][:, None]  # all but the box's size
        return [_located(row, score, region) for row, score in _merged(rows, scores[good])]


def _located(row: Float[np.ndarray, "P 2"], score: float, region: Region) -> Found:
    centre, size, *points = row
    corners = region.to_image(np.stack([centre - size / 2, centre + size / 2]))
    return Found(Box.around(corners), region.to_image(np.array(points)), score)


def _merged(
    rows: Float[np.ndarray, "N P 2"], scores: Float[np.ndarray, " N"]
) -> list[tuple[Float[np.ndarray, "P 2"], float]]:
    """Groups of overlapping predictions (centre, size, points), each as its mean and its best score."""
    low, high = rows[:, 0] - rows[:, 1] / 2, rows[:, 0] + rows[:, 1] / 2
    area = np.prod(high - low, 1)
    left, out = np.argsort(-scores, kind="stable"), []
    while len(left):
        best = left[0]
        common = np.prod(np.maximum(np.minimum(high[left], high[best]) - np.maximum(low[left], low[best]), 0), 1)
        same = common / np.maximum(area[left] + area[best] - common, 1e-12) > _OVERLAP
        same[0] = True
        group = left[same]
        out.append((np.average(rows[group], 0, scores[group]), float(scores[best])))
        left = left[~same]
    return out


FACES = Detector("face_detection", 128, ((16, 2), (8, 6)), -1.0)
"""Faces within two metres of the camera."""
_FAR_FACES = Detector("face_detection_far", 192, ((48, 1),), -1.0)
_PALMS = Detector("palm_detection", 192, ((24, 2), (12, 6)), 0.0)


class FaceFinder:
    """Faces of any size, every image for itself: the detector of far faces, and the near ones that it overlooks."""

    def find(self, image: UInt8[np.ndarray, "H W 3"]) -> list[Box]:
        """Boxes from the brows to the chin, the largest first."""
        boxes = [found.box for found in _FAR_FACES.find(image, _FACE_SCORE)]
        near = [found.box for found in FACES.find(image, _FACE_SCORE)]
        boxes += [one for one in near if not any(_share_centre(one, box) for box in boxes)]
        return sorted(boxes, key=lambda box: -box.height)


def upright_score(image: UInt8[np.ndarray, "H W 3"]) -> float:
    """Score, 0 to 1, of the surest face for the detector of far faces, which knows upright ones best."""
    found = _FAR_FACES.find(image, _WEAK_SCORE)
    return found[0].score if found else 0.0


def _share_centre(one: Box, other: Box) -> bool:
    """True if the middle of either box lies in the other."""
    (x, y), (u, v) = one.centre, other.centre
    return (
        other.left < x < other.right
        and other.top < y < other.bottom
        or one.left < u < one.right
        and one.top < v < one.bottom
    )


class HandFinder:
    """Joints of hands, every image for itself: palms, then the light hand network on each."""

    def find(self, image: UInt8[np.ndarray, "H W 3"]) -> list[Float[np.ndarray, "21 2"]]:
        """Joints of at most two hands in pixels."""
        hands = (_joints(image, palm) for palm in _PALMS.find(image, _HAND_SCORE)[:_MOST_HANDS])
        return [hand for hand in hands if hand is not None]


def _joints(image: np.ndarray, palm: Found) -> Float[np.ndarray, "21 2"] | None:
    """The hand that a palm belongs to, fingers upwards in its square; None if there is none."""
    angle = level_angle(palm.points[_WRIST], palm.points[_MIDDLE_FINGER]) + np.pi / 2
    (x, y), shift = palm.box.centre, _HAND_SHIFT * palm.box.height
    region = Region(
        x + shift * np.sin(angle), y - shift * np.cos(angle), _HAND_SIDE * max(palm.box.width, palm.box.height), angle
    )
    points, present, *_ = open_graph("hand")(region.crop(image, 224, cv2.BORDER_REPLICATE)).values()
    if float(present) < _HAND_PRESENT:
        return None
    return region.to_image(points.numpy().reshape(21, 3)[:, :2].astype(np.float64) / 224)


def count_other_faces(boxes: list[Box]) -> int:
    """Faces other than the largest that are large enough to be another speaker's."""
    return sum(box.height > OTHER_FACE * boxes[0].height for box in boxes[1:])


def hand_before_face(hand: Float[np.ndarray, "21 2"], oval: Float[np.ndarray, "P 2"]) -> bool:
    """True if a joint of the hand is inside the face's outline, or within a tenth of its height."""
    outline = oval.astype(np.float32).reshape(-1, 1, 2)
    margin = _GAP * float(np.ptp(oval[:, 1]))
    return any(cv2.pointPolygonTest(outline, (float(x), float(y)), True) > -margin for x, y in hand)
