"""Normal residual regulariser (paper eq. S13; GaussianShader's)."""

from jaxtyping import Float
from torch import Tensor


def normal_residual(residuals: Float[Tensor, "N 3"]) -> Float[Tensor, ""]:
    """Mean absolute normal residual, so that residuals do not diverge."""
    return residuals.abs().mean()
