"""Quaternions in ``wxyz`` order."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


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


def multiply(a: Float[Tensor, "*batch 4"], b: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 4"]:
    """Hamilton product: the rotation that applies ``b`` first, then ``a``."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        (
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ),
        dim=-1,
    )


def from_matrix(rotations: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Unit quaternions (w >= 0) of rotation matrices.

    Of the four classical formulas the one with the largest divisor is taken per matrix, so the result is accurate for
    every angle, half turns included. Differentiable.
    """
    m = rotations
    m00, m11, m22 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    # Row k is 4 * q[k] * q; the row with the largest diagonal entry 4 * q[k]^2 is the best conditioned.
    wx, wy, wz = (m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1])
    xy, xz, yz = (m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2])
    outer = torch.stack(
        [
            torch.stack((1 + m00 + m11 + m22, wx, wy, wz), dim=-1),
            torch.stack((wx, 1 + m00 - m11 - m22, xy, xz), dim=-1),
            torch.stack((wy, xy, 1 - m00 + m11 - m22, yz), dim=-1),
            torch.stack((wz, xz, yz, 1 - m00 - m11 + m22), dim=-1),
        ],
        dim=-2,
    )
    best = outer.diagonal(dim1=-2, dim2=-1).argmax(dim=-1)
    row = outer.gather(-2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(-2)
    quats = F.normalize(row, dim=-1)
    return torch.where(quats[..., :1] < 0, -quats, quats)
