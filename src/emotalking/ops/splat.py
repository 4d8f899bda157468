"""Moved Gaussians drawn for rendering: colours and coverage of each pixel, without gradients."""

from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from emotalking.ops.backends import Backend, Operation, cpu_kernel, cuda_kernel
from emotalking.ops.sh import num_bases

MAX_SIDE = 32767
"""The CPU kernel counts rows and columns in 16 bits."""

MAX_GPU_SIDE = 255 * 16
"""The GPU kernel counts tiles in eight bits."""

SPLAT = Operation(
    "splat",
    cuda_kernel("splat:splat", limits={"side": MAX_GPU_SIDE}),
    cpu_kernel("splat:splat", limits={"side": MAX_SIDE}),
    Backend("reference", "emotalking.ops.reference.splat:splat"),
)
"""Back ends have the arguments of :func:`emotalking.ops.reference.splat.splat`."""


@dataclass(frozen=True)
class Look:
    """What Gaussians look like wherever they are."""

    opacities: Float[Tensor, " N"]
    """In [0, 1]."""
    sh0: Float[Tensor, "N 1 3"]
    sh_rest: Float[Tensor, "N R 3"]
    """R + 1 >= (degree + 1)^2."""
    degree: int
    """Of the spherical harmonics, 0 to 3."""
    tint: Float[Tensor, "B N 3"] | None = None
    """Added to ``sh0`` in each frame."""
    packed: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """What a back end made of these tensors for its own use, by its name."""


def splat(
    means: Float[Tensor, "B N 3"],
    quats: Float[Tensor, "B N 4"],
    scales: Float[Tensor, "B N 3"],
    look: Look,
    viewmats: Float[Tensor, "B 4 4"],
    K: Float[Tensor, "3 3"],
    width: int,
    height: int,
    *,
    backend: str = "auto",
) -> Float[Tensor, "B H W 4"]:
    """Premultiplied colours and alpha: `emotalking.ops.rasterize.rasterize` of the `emotalking.ops.sh.view_colours`.

    No gradient flows, and nothing checks that the numbers are finite.

    Args:
        means: world positions, those of each camera.
        quats: wxyz, need not be normalised.
        scales: world units, > 0.
        viewmats: world-to-camera.
        K: intrinsics of all cameras, in pixels.
        width: pixels.
        height: pixels.
        backend: ``cpu`` and ``cuda`` are our kernels for float32, ``reference`` the two operations named above, with
            the back ends that they choose; ``auto`` as in `ops.backends`.

    Raises:
        ValueError: the degree is out of range, or there are fewer coefficients than it needs.
        NoCompiler: ``backend="cpu"`` where the kernels can be neither loaded nor compiled.
    """
    needed = num_bases(look.degree)
    if look.sh_rest.shape[-2] + 1 < needed:
        raise ValueError(f"sh_rest: degree {look.degree} needs {needed - 1} coefficients, got {look.sh_rest.shape[-2]}")
    chosen = SPLAT.choose(backend if means.numel() else "reference", means, side=max(width, height))
    return chosen(means, quats, scales, look, viewmats, K, width, height)
