"""Regularisers of the motion networks (paper-spec 7.1)."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor


def motion_size(offsets: Mapping[str, Tensor]) -> Float[Tensor, ""]:
    """Sum over the kinds of offset of their mean absolute value."""
    if not offsets:
        raise ValueError("offsets is empty: a static frame has no motion to regularise")
    means = [offset.abs().mean() for offset in offsets.values()]
    return sum(means[1:], start=means[0])
