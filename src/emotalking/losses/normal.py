"""Normal loss: rendered against target normal map (paper eqs. 11, S13)."""

from jaxtyping import Float
from torch import Tensor


def normal_l1(rendered: Float[Tensor, "*batch H W 3"], target: Float[Tensor, "*batch H W 3"]) -> Float[Tensor, ""]:
    """Mean absolute difference of unit normals over the frame; pixels where ``target`` is zero do not count.

    Assumption: the paper does not say whether this term is L1 or 1 - cosine; L1, as for its colours (eq. 10).
    """
    known = target.abs().amax(-1, keepdim=True) > 0
    return ((rendered - target).abs() * known).mean()


def normal_cosine(rendered: Float[Tensor, "*batch H W 3"], target: Float[Tensor, "*batch H W 3"]) -> Float[Tensor, ""]:
    """1 - cosine of unit normals, mean over the frame; zero ``target`` pixels do not count (GaussianShader's form).

    Assumption: the other reading of the paper's normal loss, see :func:`normal_l1`.
    """
    known = target.abs().amax(-1) > 0
    return ((1.0 - (rendered * target).sum(-1)) * known).mean()
