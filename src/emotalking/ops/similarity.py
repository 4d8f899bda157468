"""L1 and structural similarity of two images inside boxes, in one pass: the image losses of every stage."""

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from emotalking.ops.backends import Backend, Operation, own_kernels_wanted
from emotalking.ops.ssim import ssim

SIMILARITY = Operation(
    "similarity",
    Backend(
        "cuda",
        "emotalking.ops.cuda.similarity:compare_in_boxes",
        device="cuda",
        float32_only=True,
        available=own_kernels_wanted,
    ),
    Backend("reference", "emotalking.ops.similarity:compare_cuts"),
)


def compare_in_boxes(
    image: Float[Tensor, "H W D"], target: Float[Tensor, "H W D"], boxes: Int32[Tensor, "K 4"], *, backend: str = "auto"
) -> Float[Tensor, "K 2"]:
    """Mean absolute difference and mean structural similarity (:func:`emotalking.ops.ssim.ssim`) of each box.

    A box is an image of its own: the window of the similarity sees zeros around it.

    Args:
        boxes: `ops.box.Box` rows (top, left, bottom, right), cut at the border of the image. The kernel reads them on
            the GPU; for the reference keep them on the host.
        backend: ``reference`` cuts the boxes out (any device and float type; of several threads or a compiled kernel as
            `ssim` finds them), ``cuda`` is our kernel for GPUs in float32; ``auto`` as `ops.backends` says.

    Returns:
        L1 and similarity by box; an empty box differs in nothing: 0 and 1. Gradient flows to ``image`` alone.

    Raises:
        ValueError: shapes, dtypes or devices differ, or the back end cannot serve.
    """
    if image.shape != target.shape or image.dtype != target.dtype or image.device != target.device:
        raise ValueError(
            f"target: expected {tuple(image.shape)}, {image.dtype} on {image.device} as image is, "
            f"got {tuple(target.shape)}, {target.dtype} on {target.device}"
        )
    return SIMILARITY.choose(backend, image)(image, target.detach(), boxes)


def compare_cuts(image: Tensor, target: Tensor, boxes: Tensor) -> Tensor:
    """:func:`compare_in_boxes` by cutting out one box after the other (the reference)."""
    rows = []
    for top, left, bottom, right in boxes.clamp_min(0).tolist():
        ours, theirs = image[top:bottom, left:right], target[top:bottom, left:right]
        if ours.numel() == 0:
            rows.append(torch.stack([image.new_zeros(()), image.new_ones(())]))
        else:
            rows.append(torch.stack([(ours - theirs).abs().mean(), ssim(ours, theirs)]))
    return torch.stack(rows) if rows else image.new_zeros(0, 2)
