"""How alike two pictures are inside boxes: L1 and structural similarity, the losses of every stage, in one pass."""

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

    A box is a picture of its own: for the similarity's window there is nothing but zeros around it.

    Args:
        boxes: first row, row after the last, first column, column after the last; what lies outside the image is cut
            off. The kernel reads them on the GPU; for the reference they had better lie on the host.
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
    for top, bottom, left, right in boxes.clamp_min(0).tolist():
        ours, theirs = image[top:bottom, left:right], target[top:bottom, left:right]
        if ours.numel() == 0:
            rows.append(torch.stack([image.new_zeros(()), image.new_ones(())]))
        else:
            rows.append(torch.stack([(ours - theirs).abs().mean(), ssim(ours, theirs)]))
    return torch.stack(rows) if rows else image.new_zeros(0, 2)
