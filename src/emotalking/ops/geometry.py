"""Geometry: quaternions, cameras, the head's recorded path, and least-squares alignment of point sets.

Quaternions are in ``wxyz`` order. Cameras are OpenCV world-to-camera matrices; :mod:`emotalking.data.readers` converts
the OpenGL camera-to-world matrices of TalkingGaussian's files.
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_JUMP = 6.0
"""A step so many times as long as the steps around it is a cut. Measured on 71 s of edited news: the four cuts 10 to 46
times, the fastest gestures 2.8."""
HEAD_RADIUS = 0.08
"""Distance of the skin from the origin, world units. Motion is measured there."""


def normalize(quats: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 4"]:
    """Scale to unit length; a zero quaternion stays zero (`to_matrix` reads it as the identity)."""
    return F.normalize(quats, dim=-1, eps=1e-12)


def to_matrix(quats: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrices of quaternions, which need not be normalised.

    Args:
        quats: ``[*batch, 4]``, wxyz.

    Returns:
        ``[*batch, 3, 3]``, so that ``R @ v`` rotates a column vector. Differentiable through the normalisation.
    """
    w, x, y, z = normalize(quats).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def camera_centre(viewmat: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 3"]:
    """World position of the camera."""
    return -(viewmat[..., :3, :3].transpose(-1, -2) @ viewmat[..., :3, 3:]).squeeze(-1)


def crop_intrinsics(
    intrinsics: Float[Tensor, "3 3"], corners: Float[Tensor, "*batch 2"]
) -> Float[Tensor, "*batch 3 3"]:
    """Intrinsics K of the same camera for parts of its image whose upper left corners (x, y) are ``corners``, px."""
    cropped = intrinsics.expand(*corners.shape[:-1], 3, 3).clone()
    cropped[..., :2, 2] -= corners
    return cropped


def project(
    points: Float[Tensor, "*batch K 3"], viewmat: Float[Tensor, "*batch 4 4"], intrinsics: Float[Tensor, "*batch 3 3"]
) -> Float[Tensor, "*batch K 2"]:
    """Pixel positions of world points.

    Args:
        points: world positions.
        viewmat: world-to-camera, OpenCV axes.
        intrinsics: the matrix K in pixels; pixel centres lie at .5.

    Returns:
        ``(x, y)`` in pixels. A point in the camera plane gives infinities; one behind it is mirrored through the
        centre.
    """
    cam = points @ viewmat[..., :3, :3].transpose(-1, -2) + viewmat[..., None, :3, 3]
    pix = cam @ intrinsics.transpose(-1, -2)
    return pix[..., :2] / pix[..., 2:]


def pose_steps(viewmats: Float[np.ndarray, "P 4 4"]) -> Float[np.ndarray, " Q"]:
    """Distance [world units] that the skin moves from each pose to the next: RMS over six points around the head."""
    points = HEAD_RADIUS * np.concatenate([np.eye(3), -np.eye(3)])
    in_camera = np.einsum("pij,kj->pki", viewmats[:, :3, :3].astype(np.float64), points) + viewmats[:, None, :3, 3]
    return np.sqrt((np.diff(in_camera, axis=0) ** 2).sum(-1).mean(-1))


def stretches(viewmats: Float[np.ndarray, "P 4 4"]) -> list[tuple[int, int]]:
    """Begin and end (exclusive) of every run of consecutive poses without a cut, in order; they cover all poses."""
    cuts = np.zeros(0, np.int64)
    steps = pose_steps(viewmats)
    if len(steps) >= 3:
        padded = np.pad(steps, 3)
        around = np.lib.stride_tricks.sliding_window_view(padded, 7)[:, [0, 1, 2, 4, 5, 6]].max(-1)
        cuts = np.flatnonzero(steps > _JUMP * np.maximum(around, np.median(steps))) + 1
    bounds = [0, *(int(cut) for cut in cuts), len(viewmats)]
    return list(zip(bounds, bounds[1:], strict=False))


def fit_similarity(
    source: Float[np.ndarray, "K D"], target: Float[np.ndarray, "*batch K D"]
) -> tuple[Float[np.ndarray, "*batch"], Float[np.ndarray, "*batch D D"], Float[np.ndarray, "*batch D"]]:
    """Similarity with target ~ scale * rotation @ source + translation, by least squares (Umeyama 1991).

    Args:
        source: at least two different points in the plane, three in space.
        target: the same points elsewhere; leading dimensions are independent fits.

    Returns:
        Scale (0 or more), proper rotation and translation.
    """
    source_mean, target_mean = source.mean(0), target.mean(-2)
    a, b = source - source_mean, target - target_mean[..., None, :]
    u, s, vt = np.linalg.svd(np.einsum("...ki,kj->...ij", b, a))
    sign = np.ones(s.shape)
    sign[..., -1] = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    rotation = np.einsum("...ij,...j,...jk->...ik", u, sign, vt)
    scale = (s * sign).sum(-1) / (a**2).sum()
    translation = target_mean - scale[..., None] * np.einsum("...ij,j->...i", rotation, source_mean)
    return np.asarray(scale), rotation, translation


def similarity_matrix(source: Float[np.ndarray, "K 2"], target: Float[np.ndarray, "K 2"]) -> Float[np.ndarray, "2 3"]:
    """:func:`fit_similarity` in the plane as the matrix of ``cv2.warpAffine``."""
    scale, rotation, translation = fit_similarity(source, target)
    return np.column_stack([scale * rotation, translation])
