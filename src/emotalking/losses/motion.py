"""Regularisers of the motion networks: offsets and attention (docs/paper.md 7.1)."""

from collections.abc import Mapping

from jaxtyping import Bool, Float
from torch import Tensor


def motion_size(offsets: Mapping[str, Tensor]) -> Float[Tensor, ""]:
    """Sum over the kinds of offset of their mean absolute value."""
    if not offsets:
        raise ValueError("offsets is empty: a static frame has no motion to regularise")
    means = [offset.abs().mean() for offset in offsets.values()]
    return sum(means[1:], start=means[0])


def attention_inside(attention: Float[Tensor, "*batch H W D"], region: Bool[Tensor, "*batch H W"]) -> Float[Tensor, ""]:
    """Mean of rendered attention over the pixels of ``region``, sum over its D maps; 0 for an empty region."""
    inside = region.to(attention.dtype)
    return (attention * inside[..., None]).sum() / inside.sum().clamp_min(1.0)
