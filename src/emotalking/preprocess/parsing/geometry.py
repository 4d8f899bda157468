"""Geometry of the embedded parser: the head-fixed frame of a clip, and zones given by the landmarks."""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Shaped

from emotalking.data.layouts import FaceLayout
from emotalking.ops.geometry import similarity_matrix

CELLS = 24
"""Cells per eye distance in head-frame maps: a cell is about 3 px of a face that is 250 px high."""
LEFT, TOP = -3.5, -3.0
RIGHT, BOTTOM = 3.5, 4.5
"""Extent of head-frame maps in eye distances, the origin between the eyes; beyond it the border continues."""
FAR_JAW_POINTS = 3.5
"""By how many of iBUG's jaw points the neck's border shortens on the far side of a head in profile."""
MAP_SIZE = (int((BOTTOM - TOP) * CELLS), int((RIGHT - LEFT) * CELLS))
"""(rows, columns) of a head-frame map."""


@dataclass(frozen=True)
class HeadFrame:
    """The mean face of a clip in eye distances (origin between the eyes, x right, y down), and the way to it.

    Priors and running means live here, so that they move with the head and do not smear when it does.
    """

    reference: Float[np.ndarray, "K 2"]
    rigid: tuple[int, ...]

    @classmethod
    def fit(cls, points: Shaped[np.ndarray, "F K 2"], layout: FaceLayout) -> "HeadFrame":
        """Align the frames on their rigid points (Procrustes, 2-D similarity) and average them."""
        rigid = layout.rigid
        mean = _eyes_to_unit(points[0].astype(np.float64), layout)
        for _ in range(3):
            aligned = [apply_affine(similarity_matrix(p[list(rigid)], mean[list(rigid)]), p) for p in points]
            mean = _eyes_to_unit(np.median(aligned, 0), layout)
        return cls(mean, rigid)

    def affine_from_image(self, points: Shaped[np.ndarray, "K 2"]) -> Float[np.ndarray, "2 3"]:
        """Similarity that maps image pixels to cells of a head-frame map."""
        to_unit = similarity_matrix(points[list(self.rigid)], self.reference[list(self.rigid)])
        return CELLS * (to_unit - np.array([[0, 0, LEFT], [0, 0, TOP]]))


def _eyes_to_unit(points: np.ndarray, layout: FaceLayout) -> np.ndarray:
    return apply_affine(
        similarity_matrix(np.stack(layout.eye_centres(points)), np.array([[-0.5, 0.0], [0.5, 0.0]])), points
    )


def apply_affine(matrix: Float[np.ndarray, "2 3"], points: Shaped[np.ndarray, "K 2"]) -> Float[np.ndarray, "K 2"]:
    """``matrix`` applied to points (x, y)."""
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2], np.float64)


def fill(points: Shaped[np.ndarray, "K 2"], size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """Inside of a polygon, to a sixteenth of a pixel; pixel centres lie at .5."""
    mask = np.zeros(size, np.uint8)
    fixed = np.round((points - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(mask, [fixed], 1, lineType=cv2.LINE_8, shift=4)
    return mask.view(bool)


@dataclass(frozen=True)
class FaceZones:
    """Zones of one image that the landmarks give, each drawn when it is first asked for."""

    points: Float64[np.ndarray, "K 2"]
    layout: FaceLayout
    size: tuple[int, int]
    """(height, width) of the image."""

    @cached_property
    def _up(self) -> Float64[np.ndarray, "2"]:
        """From the chin to the eyes, length 1."""
        up = self.points[self.layout.ibug68[27]] - self.points[self.layout.ibug68[8]]
        return up / max(float(np.linalg.norm(up)), 1e-6)

    @cached_property
    def oval(self) -> Bool[np.ndarray, "H W"]:
        """Inside the face oval (for a layout without a forehead it ends at the brows)."""
        return fill(self.points[list(self.layout.oval)], self.size)

    @cached_property
    def below_brows(self) -> Bool[np.ndarray, "H W"]:
        """The part of the oval where only face can be: from the brows down."""
        points, layout = self.points, self.layout
        # The brows' points are on hair-coloured pixels, so the sure zone begins a little above them.
        brows = points[[*layout.right_brow, *reversed(layout.left_brow)]]
        margin = 0.12 * np.linalg.norm(points[layout.ibug68[39]] - points[layout.ibug68[42]])
        lower = np.concatenate([brows + margin * self._up, points[list(layout.ibug68[16::-1])]])
        return fill(lower, self.size) & self.oval

    @cached_property
    def under_jaw(self) -> Bool[np.ndarray, "H W"]:
        """Below the jaw line, prolonged sideways from the ear lobes: skin here is neck."""
        points, layout, up = self.points, self.layout, self._up
        far = 4.0 * max(self.size)
        side = np.array([-up[1], up[0]])
        if side @ (points[layout.ibug68[16]] - points[layout.ibug68[0]]) < 0:
            side = -side
        jaw = _jaw_line(points, layout, side)
        # Ear lobes are next to the jaw's upper ends; a line that falls outwards keeps them with the head.
        outer_left, outer_right = jaw[0] - far * side - 0.3 * far * up, jaw[-1] + far * side - 0.3 * far * up
        below = [[outer_left], jaw, [outer_right, outer_right - far * up, outer_left - far * up]]
        return fill(np.concatenate(below), self.size)

    @cached_property
    def mouth(self) -> Bool[np.ndarray, "H W"]:
        """Inside the inner lips."""
        return fill(self.points[list(self.layout.lips_inner)], self.size)

    @cached_property
    def lips(self) -> Bool[np.ndarray, "H W"]:
        """Inside the outer lips: not the colour of skin."""
        return fill(self.points[list(self.layout.lips_outer)], self.size)

    @cached_property
    def eyes(self) -> Bool[np.ndarray, "H W"]:
        """Eyes and brows with some margin: not the colour of skin either."""
        layout, eyes = self.layout, np.zeros(self.size, bool)
        for loop in (
            [*layout.right_upper_lid, *reversed(layout.right_lower_lid), *layout.right_brow],
            [*layout.left_upper_lid, *reversed(layout.left_lower_lid), *layout.left_brow],
        ):
            hull = cv2.convexHull(self.points[loop].astype(np.float32))[:, 0]
            eyes |= fill(hull.mean(0) + 1.3 * (hull - hull.mean(0)), self.size)
        return eyes


def face_zones(points: Shaped[np.ndarray, "K 2"], layout: FaceLayout, size: tuple[int, int]) -> FaceZones:
    """Zones of one frame; ``size`` is (height, width)."""
    return FaceZones(np.asarray(points, np.float64), layout, size)


def _jaw_line(points: np.ndarray, layout: FaceLayout, side: np.ndarray) -> Float[np.ndarray, "J 2"]:
    """The jaw from below one ear to below the other, as far as the neck can begin at it.

    Where the head turns away the jaw's far half is the outline of the cheek, with no neck next to it: the further the
    nose is from the middle between the ears, the nearer to the chin the line begins.
    """
    right, left, nose = (points[layout.ibug68[k]] @ side for k in (0, 16, 27))
    off = (nose - right) / max(float(left - right), 1e-6) - 0.5
    short = FAR_JAW_POINTS * float(np.clip((abs(off) - 0.12) / 0.25, 0, 1))
    begin, end = (4 + short, 12.0) if off < 0 else (4.0, 12 - short)
    places = [begin, *range(int(begin) + 1, int(np.ceil(end))), end]
    whole = points[list(layout.ibug68[:17])]
    return np.stack([np.interp(places, np.arange(17), whole[:, k]) for k in (0, 1)], -1)


def place_in_head(
    image_to_map: Float[np.ndarray, "2 3"], size: tuple[int, int]
) -> tuple[Float32[np.ndarray, "H W"], Float32[np.ndarray, "H W"]]:
    """Head-frame coordinates (x, y) of every pixel of an image of ``size`` (height, width), eye distances."""
    (a, b, c), (d, e, f) = image_to_map.astype(np.float32) / CELLS
    cols, rows = np.arange(size[1], dtype=np.float32)[None], np.arange(size[0], dtype=np.float32)[:, None]
    return a * cols + b * rows + (c + np.float32(LEFT)), d * cols + e * rows + (f + np.float32(TOP))


def to_head(
    image: Float32[np.ndarray, "H W C"], image_to_map: Float[np.ndarray, "2 3"]
) -> Float32[np.ndarray, "rows cols C"]:
    """Resample an image into the head frame; the image's border continues outside."""
    size = (MAP_SIZE[1], MAP_SIZE[0])
    return cv2.warpAffine(image, image_to_map, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def from_head(
    maps: Float32[np.ndarray, "rows cols C"], image_to_map: Float[np.ndarray, "2 3"], size: tuple[int, int]
) -> Float32[np.ndarray, "H W C"]:
    """Resample head-frame maps into an image of ``size`` (height, width); the map's border continues outside."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(maps, image_to_map, (size[1], size[0]), flags=flags, borderMode=cv2.BORDER_REPLICATE)
