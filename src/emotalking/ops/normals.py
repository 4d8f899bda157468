"""Surface normals of Gaussians (paper section 3.2; GaussianShader, arXiv 2311.17977)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from emotalking.ops.backends import Backend, Operation, cuda_kernel
from emotalking.ops.geometry import camera_centre, normalize

CAMERA_NORMALS = Operation(
    "camera_normals",
    cuda_kernel("shade:camera_normals"),
    Backend("reference", "emotalking.ops.normals:camera_normals_reference"),
)


def shortest_axes(
    quats: Float[Tensor, "*batch N 4"], scales: Float[Tensor, "*batch N 3"]
) -> Float[Tensor, "*batch N 3"]:
    """The axis along which each Gaussian is thinnest, as a unit vector in the world; its sign is arbitrary.

    Gradient flows to ``quats``; which axis is the shortest is a choice and has none.
    """
    w, x, y, z = normalize(quats).unbind(-1)
    # One column of the rotation matrix, built from the chosen axis only: cheaper than the matrix and a gather.
    axis = F.one_hot(scales.detach().argmin(dim=-1), 3).to(quats.dtype)
    vector = torch.stack((x, y, z), dim=-1)
    turn = torch.linalg.cross(vector, axis, dim=-1)
    return axis + 2 * (w[..., None] * turn + torch.linalg.cross(vector, turn, dim=-1))


def gaussian_normals(
    quats: Float[Tensor, "*batch N 4"],
    scales: Float[Tensor, "*batch N 3"],
    means: Float[Tensor, "*batch N 3"],
    camera_centres: Float[Tensor, "*batch 3"],
    residuals: Float[Tensor, "*batch N 3"] | None = None,
) -> Float[Tensor, "*batch N 3"]:
    """Unit normals in the world: the shortest axis turned towards the camera, plus a learned residual.

    ``normal = normalise(axis + residual)``, as GaussianShader writes it.

    Deviation: GaussianShader learns two residuals and picks one by whether the axis was flipped; the paper has
    one "normal residual" for the face, so there is one here.

    Args:
        quats: wxyz of the (deformed) Gaussians.
        scales: > 0, world units.
        means: world positions.
        camera_centres: world position of each batch entry's camera.
        residuals: dn in the world frame; None is zero.

    Returns:
        Unit vectors; gradient flows to ``quats`` and ``residuals``.
    """
    axes = shortest_axes(quats, scales)
    to_camera = (camera_centres[..., None, :] - means).detach()
    away = (axes * to_camera).sum(dim=-1, keepdim=True) < 0
    facing = torch.where(away, -axes, axes)
    return facing if residuals is None else F.normalize(facing + residuals, dim=-1)


def to_camera_frame(
    normals: Float[Tensor, "*batch N 3"], viewmat: Float[Tensor, "*batch 4 4"]
) -> Float[Tensor, "*batch N 3"]:
    """World normals in the axes of an OpenCV camera (x right, y down, z forward): a facing normal has z < 0."""
    return normals @ viewmat[..., :3, :3].transpose(-1, -2)


def camera_normals(
    quats: Float[Tensor, "B N 4"],
    scales: Float[Tensor, "B N 3"],
    means: Float[Tensor, "B N 3"],
    viewmats: Float[Tensor, "B 4 4"],
    residuals: Float[Tensor, "N 3"],
    *,
    backend: str = "auto",
) -> Float[Tensor, "B N 3"]:
    """:func:`gaussian_normals` of each camera's Gaussians in that camera's axes, encoded as colours.

    Args:
        viewmats: carry no gradient here.
        backend: ``reference`` is torch, ``cuda`` our kernel for GPUs in float32; ``auto`` as in `ops.backends`.
    """
    chosen = CAMERA_NORMALS.choose(backend if means.numel() else "reference", means)
    return chosen(quats, scales, means, viewmats, residuals)


def camera_normals_reference(
    quats: Tensor, scales: Tensor, means: Tensor, viewmats: Tensor, residuals: Tensor
) -> Tensor:
    """:func:`camera_normals` in plain torch."""
    own, views = residuals.expand(means.shape[0], -1, -1), viewmats.detach()
    return encode_normals(to_camera_frame(gaussian_normals(quats, scales, means, camera_centre(views), own), views))


def encode_normals(normals: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """[-1, 1] to [0, 1], ``0.5 n + 0.5``: normals as colours for splatting and for image files."""
    return 0.5 * normals + 0.5


def decode_normals(encoded: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """The inverse of `encode_normals`; not normalised."""
    return 2 * encoded - 1


def normals_from_render(
    splatted: Float[Tensor, "*batch H W 3"], alpha: Float[Tensor, "*batch H W"], eps: float = 1e-6
) -> Float[Tensor, "*batch H W 3"]:
    """Unit normal image from splatted encoded normals (premultiplied, over black).

    The splat is ``sum of w (0.5 n + 0.5)`` and alpha is ``sum of w``, so ``2 * splatted - alpha`` is ``sum of w n``
    whatever the coverage.

    Returns:
        Unit vectors where anything was splatted, zero elsewhere. Carries gradient; bounded also at the silhouette.
    """
    return F.normalize(2 * splatted - alpha[..., None], dim=-1, eps=eps)
