"""Growth regulariser: an expression does not swell what nobody sees (no equation of the paper)."""

from jaxtyping import Float
from torch import Tensor


def growth(scales: Float[Tensor, "B N 3"], before: Float[Tensor, "B N 3"]) -> Float[Tensor, ""]:
    """Mean square of the logarithm by which a Gaussian's largest scale grew; nothing where it shrank.

    Args:
        scales: world units, > 0.
        before: of the same Gaussians.
    """
    return (scales.amax(-1).log() - before.amax(-1).log()).clamp_min(0.0).square().mean()
