"""Image losses: L1 (eq. 10), D-SSIM (eq. 10), silhouette (docs/paper.md 7.1)."""

from jaxtyping import Bool, Float, Int32
from torch import Tensor

from emotalking.ops.similarity import compare_in_boxes
from emotalking.ops.ssim import ssim


def l1(image: Float[Tensor, "*batch H W C"], target: Float[Tensor, "*batch H W C"]) -> Float[Tensor, ""]:
    """Mean absolute difference over all pixels and channels (eq. 10)."""
    return (image - target).abs().mean()


def d_ssim(image: Float[Tensor, "*batch H W C"], target: Float[Tensor, "*batch H W C"]) -> Float[Tensor, ""]:
    """1 - SSIM with an 11x11 Gaussian window (eq. 10; the factor 1/2 of some definitions is not in the baseline)."""
    return 1.0 - ssim(image, target)


def alike_in_boxes(
    image: Float[Tensor, "1 H W 3"], target: Float[Tensor, "1 H W 3"], boxes: Int32[Tensor, "K 4"]
) -> tuple[Float[Tensor, " K"], Float[Tensor, " K"]]:
    """:func:`l1` and :func:`d_ssim` of each of K boxes (:func:`emotalking.ops.similarity.compare_in_boxes`)."""
    difference, similarity = compare_in_boxes(image[0], target[0], boxes).unbind(1)
    return difference, 1.0 - similarity


def silhouette(alpha: Float[Tensor, "*batch H W"], region: Bool[Tensor, "*batch H W"]) -> Float[Tensor, ""]:
    """Alpha that is missing inside ``region`` plus alpha present outside it, each as a mean over the frame.

    An empty or full region is harmless: its half is zero, nothing is divided by a pixel count that can vanish.
    """
    inside = region.to(alpha.dtype)
    return ((1.0 - alpha) * inside).mean() + (alpha * (1.0 - inside)).mean()
