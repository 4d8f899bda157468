"""L1 and structural similarity of two images, of whole images or inside boxes: the image losses of every stage."""

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from emotalking.ops.backends import Backend, Operation, cpu_kernel, cuda_kernel

SSIM = Operation(
    "ssim",
    cpu_kernel("ssim:ssim_map"),
    Backend("reference", "emotalking.ops.reference.ssim:ssim_map"),
)

SIMILARITY = Operation(
    "similarity",
    cuda_kernel("similarity:compare_in_boxes"),
    cpu_kernel("ssim:compare_in_boxes"),
    Backend("reference", "emotalking.ops.similarity:compare_crops"),
)


def ssim(
    a: Float[Tensor, "*batch H W D"],
    b: Float[Tensor, "*batch H W D"],
    *,
    reduction: str = "mean",
    backend: str = "auto",
) -> Float[Tensor, "..."]:
    """Similarity of two images under an 11 x 11 Gaussian window (sigma 1.5), zero padded to the same size.

    Per channel; constants 0.01^2 and 0.03^2 for values in [0, 1]. The D-SSIM loss is ``1 - ssim(a, b)``.

    Args:
        a: images, channel last.
        b: images of the same shape.
        reduction: ``mean`` over everything, or ``none`` for one value per pixel and channel.
        backend: ``reference`` is torch (any device and float type), ``cpu`` the compiled float32 kernel; ``auto``
            chooses the kernel where possible.

    Returns:
        A scalar, or a map of the images' shape. Gradient flows to both images.

    Raises:
        ValueError: shapes, dtypes or devices differ.
        NoCompiler: ``backend="cpu"`` where the kernels can be neither loaded nor compiled.
    """
    if a.shape != b.shape or a.dtype != b.dtype or a.device != b.device:
        raise ValueError(
            f"b: expected {tuple(a.shape)}, {a.dtype} on {a.device} as a is, "
            f"got {tuple(b.shape)}, {b.dtype} on {b.device}"
        )
    if reduction not in ("mean", "none"):
        raise ValueError(f"reduction: expected mean or none, got {reduction!r}")
    flat_a, flat_b = a.reshape(-1, *a.shape[-3:]), b.reshape(-1, *b.shape[-3:])
    similarity = SSIM.choose(backend, a)(flat_a, flat_b)
    return similarity.mean() if reduction == "mean" else similarity.reshape(a.shape)


def compare_in_boxes(
    image: Float[Tensor, "H W D"], target: Float[Tensor, "H W D"], boxes: Int32[Tensor, "K 4"], *, backend: str = "auto"
) -> Float[Tensor, "K 2"]:
    """Mean absolute difference and mean structural similarity (:func:`emotalking.ops.similarity.ssim`) of each box.

    Each box is treated as an image of its own: the window of the similarity is zero padded around it.

    Args:
        boxes: `ops.box.Box` rows (top, left, bottom, right), clipped at the border of the image. The kernel reads them
            on the GPU; for the reference keep them on the host.
        backend: ``reference`` crops the boxes (any device and float type; with the back end that
            `ssim` chooses), ``cpu`` and ``cuda`` are our kernels for float32; ``auto`` as in `ops.backends`.

    Returns:
        L1 and similarity by box; 0 and 1 for an empty box. Gradient flows to ``image`` alone.

    Raises:
        ValueError: shapes, dtypes or devices differ, or the back end cannot serve.
    """
    if image.shape != target.shape or image.dtype != target.dtype or image.device != target.device:
        raise ValueError(
            f"target: expected {tuple(image.shape)}, {image.dtype} on {image.device} as image is, "
            f"got {tuple(target.shape)}, {target.dtype} on {target.device}"
        )
    return SIMILARITY.choose(backend, image)(image, target.detach(), boxes)


def compare_crops(image: Tensor, target: Tensor, boxes: Tensor) -> Tensor:
    """:func:`compare_in_boxes` by cropping one box after another (the reference)."""
    rows = []
    for top, left, bottom, right in boxes.clamp_min(0).tolist():
        a, b = image[top:bottom, left:right], target[top:bottom, left:right]
        if a.numel() == 0:
            rows.append(torch.stack([image.new_zeros(()), image.new_ones(())]))
        else:
            rows.append(torch.stack([(a - b).abs().mean(), ssim(a, b)]))
    return torch.stack(rows) if rows else image.new_zeros(0, 2)
