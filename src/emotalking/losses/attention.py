"""Attention regulariser: rendered attention outside its own region (docs/paper.md 7.1)."""

from jaxtyping import Bool, Float
from torch import Tensor


def attention_inside(attention: Float[Tensor, "*batch H W D"], region: Bool[Tensor, "*batch H W"]) -> Float[Tensor, ""]:
    """sum over D maps of their mean over the pixels of ``region``; 0 for an empty region."""
    inside = region.to(attention.dtype)
    return (attention * inside[..., None]).sum() / inside.sum().clamp_min(1.0)
