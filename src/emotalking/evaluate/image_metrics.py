"""Image metrics: pure functions on arrays (docs/paper.md 9.1)."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from emotalking.ops.reference.ssim import RADIUS
from emotalking.ops.ssim import ssim as similarity


def psnr(image: Float[Tensor, "*batch H W 3"], truth: Float[Tensor, "*batch H W 3"]) -> Float[Tensor, "*batch"]:
    """Peak signal-to-noise ratio in dB of each image in [0, 1], over all pixels and channels; infinite if equal.

    10 log10(1 / MSE). A clip's metric is the mean of its frames' decibels, as in the baseline's script, not the
    decibels of the clip's mean error.
    """
    error = (image - truth).square().mean(dim=(-1, -2, -3))
    return -10.0 * torch.log10(error)


def masked_psnr(
    image: Float[Tensor, "H W 3"], truth: Float[Tensor, "H W 3"], mask: Bool[Tensor, "H W"]
) -> Float[Tensor, ""]:
    """:func:`psnr` over the pixels of ``mask`` alone, dB; nan if there is none."""
    return -10.0 * torch.log10((image - truth)[mask].square().mean())


def ssim(image: Float[Tensor, "H W 3"], truth: Float[Tensor, "H W 3"]) -> Float[Tensor, ""]:
    """Structural similarity (Wang et al. 2004) of RGB in [0, 1], up to 1.

    11x11 Gaussian window of sigma 1.5, constants 0.01^2 and 0.03^2, biased variances, each channel for itself, mean
    over the windows that lie inside the image and over the channels. That is scikit-image's ``structural_similarity``
    with ``gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1``. Others also
    average over windows that reach beyond the image: torchmetrics mirrors it there, the D-SSIM loss (3DGS) pads it
    with black; on talking heads both give up to .01 more (``benchmarks/metric_agreement.py``).

    Args:
        image: more than 10 pixels a side.
        truth: of the same shape.
    """
    inside = slice(RADIUS, -RADIUS)
    return similarity(image, truth, reduction="none")[inside, inside].mean()
