"""Losses of the rendered normal map (paper eq. 11 and S13: normal map, total variation, residual)."""

from jaxtyping import Bool, Float
from torch import Tensor


def normal_l1(rendered: Float[Tensor, "*batch H W 3"], target: Float[Tensor, "*batch H W 3"]) -> Float[Tensor, ""]:
    """Mean absolute difference of unit normals over the frame, nothing asked where ``target`` is zero.

    Assumption: the paper does not say whether this term is L1 or 1 - cosine; L1, as for its colours (eq. 10).
    """
    known = target.abs().amax(-1, keepdim=True) > 0
    return ((rendered - target).abs() * known).mean()


def normal_cosine(rendered: Float[Tensor, "*batch H W 3"], target: Float[Tensor, "*batch H W 3"]) -> Float[Tensor, ""]:
    """1 - cosine of unit normals, mean over the frame, nothing asked where ``target`` is zero (GaussianShader's form).

    Assumption: the other reading of the paper's normal loss, see :func:`normal_l1`.
    """
    known = target.abs().amax(-1) > 0
    return ((1.0 - (rendered * target).sum(-1)) * known).mean()


def total_variation(normals: Float[Tensor, "*batch H W 3"], region: Bool[Tensor, "*batch H W"]) -> Float[Tensor, ""]:
    """Mean absolute difference to the right and lower neighbour over the frame, for pairs inside ``region``."""
    across = (normals[..., :, 1:, :] - normals[..., :, :-1, :]).abs()
    down = (normals[..., 1:, :, :] - normals[..., :-1, :, :]).abs()
    pairs_across = region[..., :, 1:] & region[..., :, :-1]
    pairs_down = region[..., 1:, :] & region[..., :-1, :]
    total = (across * pairs_across[..., None]).sum() + (down * pairs_down[..., None]).sum()
    return total / normals.numel()


def residual_size(residuals: Float[Tensor, "N 3"]) -> Float[Tensor, ""]:
    """Mean absolute normal residual, so that residuals do not diverge (GaussianShader's regulariser)."""
    return residuals.abs().mean()
