"""Camera-space normal maps of the face from the tracked landmarks: the embedded provider (no network, no weights).

The points of a frame, in the head frame, are the corners of a triangle mesh whose connections are computed once from
the subject's own neutral shape; its smooth vertex normals are drawn into the image and kept on the skin.

Deviation: the paper reads the cross-modal face-normal network; what the landmarks do not move (wrinkles, ears, the
forehead above the last row of points) is missing here, and the depth is as good as the landmark detector's.
"""

from functools import partial
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from scipy.spatial import Delaunay

from emotalking.data import writer as write
from emotalking.data.files import SubjectFiles
from emotalking.data.labels import Label
from emotalking.data.layouts import FaceLayout
from emotalking.data.readers import read_masks
from emotalking.ops.mesh import interpolate_vertices, rasterize_mesh, vertex_normals
from emotalking.preprocess.steps import each_frame

_AXIS_Z = 0.02
"""The shape is unrolled from an upright axis this far behind the head's origin (world units), so that cheeks and
temples, which a frontal view shows edge-on, get well-shaped triangles."""
_OPEN_MOUTH = 0.008
"""Shift of the lower lip while the connections are chosen (world units): in a closed mouth the two lips'
edges lie on each other, and triangles would join the wrong ones."""
_EDGE_ON = 0.1
"""Pixels whose normal is less than this (cosine) turned to the camera are left out: the mesh has no outline there."""


def build_mesh(shape: Float[np.ndarray, "K 3"], layout: FaceLayout) -> Int[np.ndarray, "T 3"]:
    """Connect the landmarks of a neutral face: Delaunay on the unrolled shape, holes at the eyes and between the lips.

    Args:
        shape: neutral landmarks in the head frame, world units.
        layout: names the lids, lips and irises.

    Returns:
        Triangles of landmark indices, counter-clockwise as seen from outside in the head frame (x right, y up, z
        outwards).

    Raises:
        ValueError: if the shape is not finite.
    """
    if not np.isfinite(shape).all():
        raise ValueError("shape must be finite")
    flat = np.stack([np.arctan2(shape[:, 0], shape[:, 2] + _AXIS_Z) * 0.08, shape[:, 1]], -1)
    flat = _mouth_opened(flat, layout)
    used = np.setdiff1d(np.arange(len(shape)), [*layout.right_iris, *layout.left_iris])
    corners = used[Delaunay(flat[used]).simplices]
    for ring in (layout.eye_loop("right"), layout.eye_loop("left"), layout.lips_inner):
        corners = corners[~_inside(flat[corners].mean(1), flat[list(ring)])]
    corners = corners[_inside(flat[corners].mean(1), flat[list(layout.oval)])]
    a, b, c = (flat[corners[:, k]] for k in range(3))
    turn = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    corners[turn < 0] = corners[turn < 0][:, ::-1]
    return corners[np.abs(turn) > 1e-12].astype(np.int32)


def draw_normals(
    triangles: Int[np.ndarray, "T 3"],
    head: Float[np.ndarray, "K 3"],
    viewmat: Float[np.ndarray, "4 4"],
    focal: float,
    size: tuple[int, int],
    skin: Bool[np.ndarray, "H W"] | None = None,
) -> Float32[np.ndarray, "H W 3"]:
    """Draw the face's normals as the camera sees them.

    Args:
        triangles: of :func:`build_mesh`.
        head: the frame's landmarks in the head frame, world units.
        viewmat: head to camera, OpenCV axes.
        focal: pixels; the principal point is the image's centre.
        size: image (height, width).
        skin: True where normals may be drawn; None: everywhere.

    Returns:
        Unit vectors with OpenCV axes (x right, y down, z forward: skin that faces the camera has z < 0); zero where
        there is no face.
    """
    height, width = size
    rotation, translation = viewmat[:3, :3], viewmat[:3, 3]
    camera = head @ rotation.T + translation
    pixels = camera[:, :2] / camera[:, 2:] * focal + np.array([width / 2, height / 2])
    out = np.zeros((height, width, 3), np.float32)
    if not np.isfinite(pixels).all():
        return out
    left, top = np.clip(np.floor(pixels.min(0)), 0, (width - 1, height - 1)).astype(int).tolist()
    right, bottom = np.clip(np.ceil(pixels.max(0)), (left + 1, top + 1), (width, height)).astype(int).tolist()
    window = np.s_[top:bottom, left:right]
    corners = np.concatenate([pixels - (left, top), camera[:, 2:]], 1)
    fragments = rasterize_mesh(corners, triangles, right - left, bottom - top)
    normals = vertex_normals(head, triangles) @ rotation.T.astype(np.float32)
    shown = np.ones((bottom - top, right - left), bool) if skin is None else skin[window]
    corner = left + 0.5 - width / 2, top + 0.5 - height / 2
    drawn = interpolate_vertices(normals, triangles, fragments)
    out[window] = facing_normals(drawn, shown, corner, focal)
    return out


def facing_normals(
    normals: Float32[np.ndarray, "H W 3"], shown: Bool[np.ndarray, "H W"], corner: tuple[float, float], focal: float
) -> Float32[np.ndarray, "H W 3"]:
    """Unit normals of a part of an image where they are ``shown`` and face the camera; zero elsewhere.

    Args:
        normals: OpenCV axes, of any length; zero where there is none.
        shown: True where one may be kept.
        corner: centre of the first pixel (x, y), pixels from the principal point.
        focal: pixels.
    """
    # A plane per axis: numpy is slow along a last axis of three.
    x, y, z = cv2.split(normals)
    columns = np.arange(shown.shape[1], dtype=np.float32) + np.float32(corner[0])
    rows = np.arange(shown.shape[0], dtype=np.float32)[:, None] + np.float32(corner[1])
    length = np.sqrt(x * x + y * y + z * z)
    away = x * columns + y * rows + z * np.float32(focal)
    away += np.float32(_EDGE_ON) * length * np.sqrt(columns * columns + (rows * rows + np.float32(focal) ** 2))
    scale = (shown & (away <= 0)) / np.maximum(length, np.float32(1e-6))
    return np.asarray(cv2.merge([x * scale, y * scale, z * scale]), np.float32)


def make_normals(
    files: SubjectFiles,
    head: Float[np.ndarray, "N K 3"],
    shape: Float[np.ndarray, "K 3"],
    viewmats: Float[np.ndarray, "N 4 4"],
    focal: float,
    layout: FaceLayout,
) -> dict[str, Any]:
    """Write ``normals/`` of all frames, kept to the skin that ``parsing/`` shows.

    Args:
        files: the subject; its parsing is there.
        head: landmarks of every frame in the head frame.
        shape: neutral landmarks in the head frame.
        viewmats: head to camera.
        focal: pixels.
        layout: meaning of the landmarks.
    """
    draw = partial(_draw, files, build_mesh(shape, layout), viewmats, focal)
    each_frame(head, draw, "normals", len(head))
    return {"provider": "mesh"}


def _draw(
    files: SubjectFiles, triangles: np.ndarray, viewmats: np.ndarray, focal: float, index: int, points: np.ndarray
) -> None:
    skin = read_masks(files, index).labels == Label.HEAD
    size = (skin.shape[0], skin.shape[1])
    write.write_normals(files.root, index, draw_normals(triangles, points, viewmats[index], focal, size, skin))


def _mouth_opened(flat: np.ndarray, layout: FaceLayout) -> np.ndarray:
    """Everything below the line between the lips moved down, fully at its middle, not at its corners."""
    lips = list(layout.lips_inner)
    half = len(lips) // 2
    line = flat[lips[: half + 1]]
    order = np.argsort(line[:, 0])
    lower = [*lips[half + 1 :]]
    height = np.interp(flat[:, 0], line[order, 0], line[order, 1])
    left, right = sorted((flat[lips[0], 0], flat[lips[half], 0]))
    across = np.clip((flat[:, 0] - left) / (right - left), 0, 1)
    below = flat[:, 1] < height
    below[lips[: half + 1]] = False
    below[lower] = True
    out = flat.copy()
    out[:, 1] -= _OPEN_MOUTH * np.sin(np.pi * across) * below
    return out


def _inside(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """True for points inside a polygon (even-odd rule)."""
    x, y = points[:, None, 0], points[:, None, 1]
    a, b = polygon, np.roll(polygon, -1, axis=0)
    crosses = (a[:, 1] > y) != (b[:, 1] > y)
    rise = np.where(b[:, 1] == a[:, 1], 1.0, b[:, 1] - a[:, 1])
    at = a[:, 0] + (y - a[:, 1]) * (b[:, 0] - a[:, 0]) / rise
    return (crosses & (x < at)).sum(1) % 2 == 1
