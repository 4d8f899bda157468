"""Image metrics: pure functions on arrays (paper-spec 9.1)."""

import torch
from jaxtyping import Float
from torch import Tensor

from emotalking.ops.ssim import ssim as ssim_mean


def psnr(image: Float[Tensor, "*batch H W 3"], truth: Float[Tensor, "*batch H W 3"]) -> Float[Tensor, "*batch"]:
    """Peak signal-to-noise ratio in dB of each image in [0, 1], over all pixels and channels; infinite if equal."""
    error = (image - truth).square().mean(dim=(-1, -2, -3))
    return -10.0 * torch.log10(error)


def ssim(image: Float[Tensor, "H W 3"], truth: Float[Tensor, "H W 3"]) -> Float[Tensor, ""]:
    """Structural similarity: 11x11 Gaussian window of sigma 1.5, zero padding, mean over pixels and channels."""
    return ssim_mean(image, truth)
