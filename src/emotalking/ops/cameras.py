"""Cameras: OpenCV world-to-camera matrices inside, OpenGL camera-to-world in TalkingGaussian's files."""

import torch
from jaxtyping import Float
from torch import Tensor


def _invert_rigid(T_a_b: Tensor) -> Tensor:
    """T_b_a of a rigid transform: transpose the rotation instead of a general inverse (exact, cheap)."""
    R = T_a_b[..., :3, :3].transpose(-1, -2)
    t = -(R @ T_a_b[..., :3, 3:])
    last = torch.zeros_like(T_a_b[..., 3:, :])
    last[..., 3] = 1
    return torch.cat((torch.cat((R, t), dim=-1), last), dim=-2)


def _flip_camera_axes(T_world_cam: Tensor) -> Tensor:
    """Negate a camera's y and z axes: OpenGL (y up, z backward) <-> OpenCV (y down, z forward)."""
    return T_world_cam * T_world_cam.new_tensor((1.0, -1.0, -1.0, 1.0))


def opengl_c2w_to_viewmat(T_world_cam: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 4 4"]:
    """World-to-camera matrix (OpenCV axes) of a ``transform_matrix`` in `transforms_*.json`.

    Args:
        T_world_cam: rigid camera-to-world transforms with OpenGL axes (x right, y up, z backward).
    """
    return _invert_rigid(_flip_camera_axes(T_world_cam))


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
