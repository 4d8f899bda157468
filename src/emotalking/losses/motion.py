"""Motion regulariser: small offsets (docs/paper.md 7.1)."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor


def offset_magnitude(offsets: Mapping[str, Tensor]) -> Float[Tensor, ""]:
    """sum over the kinds of offset of mean(|offset|).

    Raises:
        ValueError: there are no offsets.
    """
    if not offsets:
        raise ValueError("offsets is empty: a static frame has no motion to regularise")
    means = [offset.abs().mean() for offset in offsets.values()]
    return sum(means[1:], start=means[0])
