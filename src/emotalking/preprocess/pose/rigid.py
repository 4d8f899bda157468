"""Geometry of the pose solver: first guess, triangulation, and the world frame of a head."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial.transform import Rotation

from emotalking.data.layouts import EYE_DISTANCE, FaceLayout
from emotalking.ops.geometry import fit_similarity

EYE_PLACE = (0.0, 0.005, 0.055)
"""Middle between the eyes in the head frame; face and hair then fill the cube +-0.15."""


@dataclass(frozen=True)
class RigidStart:
    """A first guess for the pose solver: detector shape in the head frame, weak-perspective poses."""

    shape: Float[np.ndarray, "R 3"]
    rotations: Float[np.ndarray, "N 3 3"]
    translations: Float[np.ndarray, "N 3"]
    focal: float

    def only(self, index: Int[np.ndarray, " R2"]) -> "RigidStart":
        """The same with a subset of the points."""
        return RigidStart(self.shape[index], self.rotations, self.translations, self.focal)


def head_frame(
    shape: Float[np.ndarray, "K 3"], layout: FaceLayout
) -> tuple[float, Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]:
    """Scale, rotation and offset that bring a face shape to the world frame: world = scale * R @ p + offset.

    x runs from the person's right eye to the left, y from the chin to the top of the forehead, made orthogonal to x.
    """
    right, left = layout.eye_centres(shape)
    x = left - right
    scale = EYE_DISTANCE / float(np.linalg.norm(x))
    x = x / np.linalg.norm(x)
    y = shape[layout.oval[0]] - shape[layout.ibug68[8]]
    y = y - x * (x @ y)
    y = y / np.linalg.norm(y)
    rotation = np.stack([x, y, np.cross(x, y)])
    return scale, rotation, np.asarray(EYE_PLACE) - scale * rotation @ ((right + left) / 2)


def euler_angles(viewmats: Float[np.ndarray, "N 4 4"]) -> Float[np.ndarray, "N 3"]:
    """Yaw (positive: the person's right side turns to the front), pitch and roll of the head in the camera, radians."""
    facing = np.diag([1.0, -1.0, -1.0]) @ viewmats[:, :3, :3].astype(np.float64)
    return Rotation.from_matrix(facing).as_euler("YXZ")


def start(
    points: Float[np.ndarray, "N K 2"],
    depth: Float[np.ndarray, "N K"],
    detected: Bool[np.ndarray, " N"],
    layout: FaceLayout,
    size: tuple[int, int],
    focal_ratio: float,
) -> RigidStart:
    """The detector's 3-D points averaged in the head frame, and each frame's weak-perspective pose.

    Frames without a face take the pose of the nearest frame with one.
    """
    index = np.asarray(layout.rigid)
    frames = np.flatnonzero(detected)
    some = spread_over(frames)
    sample = np.concatenate([points[some], depth[some, :, None]], -1, dtype=np.float64)
    mean = sample[len(sample) // 2]
    for _ in range(3):
        scale, rotation, translation = fit_similarity(mean[index], sample[:, index])
        back = np.einsum("nij,nki->nkj", rotation, sample - translation[:, None]) / scale[:, None, None]
        mean = np.median(back, 0)
    world_scale, world_rotation, offset = head_frame(mean, layout)
    shape = world_scale * mean @ world_rotation.T + offset
    observed = np.concatenate([points[:, index], depth[:, index, None]], -1, dtype=np.float64)[detected]
    scale, rotation, translation = fit_similarity(shape[index], observed)
    focal = focal_ratio * size[1]
    z = focal / scale
    xy = (translation[:, :2] - np.array([size[1] / 2, size[0] / 2])) / scale[:, None]
    nearest = np.round(np.interp(np.arange(len(points)), frames, np.arange(len(frames)))).astype(int)
    return RigidStart(shape, rotation[nearest], np.column_stack([xy, z])[nearest], focal)


def spread_over(frames: Int[np.ndarray, " F"], most: int = 2000) -> Int[np.ndarray, " S"]:
    """At most ``most`` of the frames, evenly spread: enough for means and medians, however long the clip is."""
    return frames[np.linspace(0, len(frames) - 1, min(len(frames), most)).round().astype(int)]


def triangulate(
    points: Float[np.ndarray, "N K 2"],
    detected: Bool[np.ndarray, " N"],
    viewmats: Float[np.ndarray, "N 4 4"],
    focal: float,
    size: tuple[int, int],
    prior: Float[np.ndarray, "K 3"],
    spread: float = 0.004,
) -> Float[np.ndarray, "K 3"]:
    """Every landmark's robust mean place in the head frame, given the path.

    Args:
        points: pixels [N, K, 2]; NaN where a point of a frame that is used is not known.
        detected: frames to use.
        viewmats: the path.
        focal: pixels.
        size: image (height, width).
        prior: the detector's shape in the head frame; decides what the views do not show (depth of a frontal face).
        spread: standard deviation around ``prior``, against fifty independent views of one pixel noise.
    """
    frames = spread_over(np.flatnonzero(detected))
    rotation, translation = viewmats[frames, :3, :3], viewmats[frames, :3, 3]
    centre = np.array([size[1] / 2, size[0] / 2])
    shape = prior.copy()
    scale = max(len(frames) / 50.0, 1.0)
    for _ in range(6):
        matrix = np.tile(np.eye(3) * scale / spread**2, (len(shape), 1, 1))
        pull = (shape - prior) * scale / spread**2
        for chunk in np.array_split(np.arange(len(frames)), max(1, len(frames) // 200)):
            turned = rotation[chunk]
            x, y, z = np.moveaxis(turned @ shape.T + translation[chunk, :, None], 1, 0)  # [n, K]: long rows are fast
            uv = focal * np.stack([x, y]) / z
            residual = uv + centre[:, None, None] - np.moveaxis(points[frames[chunk]], 2, 0)
            known = np.isfinite(residual).all(0)
            residual = np.where(known, residual, 0.0)
            root = np.sqrt(known / np.maximum(np.linalg.norm(residual, axis=0), 1.0))
            rows = turned.transpose(1, 2, 0)[..., None]
            columns = [*((focal * rows[:2] - uv[:, None] * rows[2]) * (root / z)).swapaxes(0, 1), root * residual]
            for i, first in enumerate(columns[:3]):
                for j, second in enumerate(columns[:3]):
                    matrix[:, i, j] += np.einsum("ank,ank->k", first, second)
                pull[:, i] += np.einsum("ank,ank->k", first, columns[3])
        shape = shape - np.linalg.solve(matrix, pull[..., None])[..., 0]
    return shape


def to_world(
    viewmats: Float[np.ndarray, "N 4 4"], shape: Float[np.ndarray, "K 3"], layout: FaceLayout
) -> tuple[Float[np.ndarray, "N 4 4"], Float[np.ndarray, "K 3"]]:
    """Move path and shape to the world frame of docs/conventions.md; the images that they explain stay the same."""
    scale, rotation, offset = head_frame(shape, layout)
    out = viewmats.copy()
    out[:, :3, :3] = viewmats[:, :3, :3] @ rotation.T
    out[:, :3, 3] = scale * viewmats[:, :3, 3] - out[:, :3, :3] @ offset
    return out, scale * shape @ rotation.T + offset
