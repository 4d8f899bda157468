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
