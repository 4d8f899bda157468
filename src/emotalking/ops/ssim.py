"""Structural similarity of images (Wang et al. 2004), windowed as 3DGS does."""

import torch
from jaxtyping import Float
from torch import Tensor

from emotalking.ops.cpu.build import NoCompiler
from emotalking.ops.reference import ssim as reference


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
        backend: ``reference`` is torch (any device and float type), ``cpu`` the compiled float32 kernel; ``auto`` takes
            the kernel where it can.

    Returns:
        A scalar, or a map of the images' shape. Gradient flows to both images.

    Raises:
        ValueError: shapes, dtypes or devices differ.
        NoCompiler: ``backend="cpu"`` is asked for and there is no C++ compiler.
    """
    if a.shape != b.shape or a.dtype != b.dtype or a.device != b.device:
        raise ValueError(
            f"b: expected {tuple(a.shape)}, {a.dtype} on {a.device} as a is, "
            f"got {tuple(b.shape)}, {b.dtype} on {b.device}"
        )
    if reduction not in ("mean", "none"):
        raise ValueError(f"reduction: expected mean or none, got {reduction!r}")
    if backend not in ("auto", "reference", "cpu"):
        raise ValueError(f"backend: expected auto, reference or cpu, got {backend!r}")
    fits_kernel = a.device.type == "cpu" and a.dtype == torch.float32
    if backend == "cpu" and not fits_kernel:
        raise ValueError(f"backend='cpu' needs float32 on the CPU, a is {a.dtype} on {a.device}")
    flat_a, flat_b = a.reshape(-1, *a.shape[-3:]), b.reshape(-1, *b.shape[-3:])
    similarity = None
    if backend != "reference" and fits_kernel:
        from emotalking.ops.cpu import ssim as cpu

        try:
            similarity = cpu.ssim_map(flat_a, flat_b)
        except NoCompiler:
            if backend == "cpu":
                raise
    if similarity is None:
        similarity = reference.ssim_map(flat_a, flat_b)
    return similarity.mean() if reduction == "mean" else similarity.reshape(a.shape)
