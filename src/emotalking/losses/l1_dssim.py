"""Photometric loss: L1 and D-SSIM (paper eq. 10; docs/paper.md 7.1)."""

from jaxtyping import Float, Int32
from torch import Tensor

from emotalking.ops.similarity import compare_in_boxes, ssim


def l1(image: Float[Tensor, "*batch H W C"], target: Float[Tensor, "*batch H W C"]) -> Float[Tensor, ""]:
    """Mean absolute difference over all pixels and channels (eq. 10)."""
    return (image - target).abs().mean()


def d_ssim(image: Float[Tensor, "*batch H W C"], target: Float[Tensor, "*batch H W C"]) -> Float[Tensor, ""]:
    """1 - SSIM with an 11x11 Gaussian window (eq. 10; the factor 1/2 of some definitions is not in the baseline)."""
    return 1.0 - ssim(image, target)


def l1_dssim_in_boxes(
    image: Float[Tensor, "1 H W 3"], target: Float[Tensor, "1 H W 3"], boxes: Int32[Tensor, "K 4"]
) -> tuple[Float[Tensor, " K"], Float[Tensor, " K"]]:
    """:func:`l1` and :func:`d_ssim` of each of K boxes (:func:`emotalking.ops.similarity.compare_in_boxes`)."""
    difference, similarity = compare_in_boxes(image[0], target[0], boxes).unbind(1)
    return difference, 1.0 - similarity
