"""Silhouette loss: rendered alpha against a region's mask (docs/paper.md 7.1)."""

from jaxtyping import Bool, Float
from torch import Tensor


def silhouette(
    alpha: Float[Tensor, "*batch H W"], region: Bool[Tensor, "*batch H W"] | Float[Tensor, "*batch H W"]
) -> Float[Tensor, ""]:
    """mean((1 - alpha) * region) + mean(alpha * (1 - region)): alpha missing inside ``region`` and present outside.

    Both are means over the frame. An empty or full region is harmless: its half is zero, nothing is divided by a pixel
    count that can vanish. Of a soft region in [0, 1] it is the mean absolute difference, which a bool one has as well.
    """
    return (alpha - region.to(alpha.dtype)).abs().mean()
