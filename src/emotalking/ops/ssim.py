"""Structural similarity of images (Wang et al. 2004), windowed as 3DGS does."""

from jaxtyping import Float
from torch import Tensor

from emotalking.ops.backends import Backend, Operation, builds

SSIM = Operation(
    "ssim",
    Backend(
        "cpu",
        "emotalking.ops.cpu.ssim:ssim_map",
        device="cpu",
        float32_only=True,
        available=builds("emotalking.ops.cpu.ssim"),
    ),
    Backend("reference", "emotalking.ops.reference.ssim:ssim_map"),
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
        NoCompiler: ``backend="cpu"`` without a C++ compiler.
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
