"""Images moved along smooth fields: a field inverted, and pixels and labels fetched by it; no gradient."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from emotalking.ops.backends import Backend, Operation, cpu_kernel

ROUNDS = 4
"""Steps of the fixed point that inverts a field. The first goes half of the way: where a field stretches to more than
twice the length, full steps overshoot, each further."""
MAX_CHANNELS = 7
"""Most channels of images of the CPU kernel."""

INVERT_FIELD = Operation(
    "invert_field", cpu_kernel("warp:invert_field"), Backend("reference", "emotalking.ops.reference.warp:invert_field")
)
REMAP = Operation(
    "remap",
    cpu_kernel("warp:remap", limits={"channels": MAX_CHANNELS}),
    Backend("reference", "emotalking.ops.reference.warp:remap"),
)


def invert_field(
    planes: Float[Tensor, "B C h w"],
    places: Float[Tensor, "B 3 m n"],
    jacobian: Float[Tensor, "B 2 2"],
    scale: int,
    step: int,
    *,
    backend: str = "auto",
) -> tuple[Float[Tensor, "B 2 M N"], Float[Tensor, "B _ M N"]]:
    """Source of each pixel of moved images (offset in pixels), and what else the planes hold there.

    Args:
        planes: moves (x, y), and C - 2 further values; zero around.
        places: (x, y) in pixels of the planes that the image shows, and their weight.
        jacobian: pixels of the image by which a move's unit right and down moves it.
        scale: fields are computed at M = scale m rows and N = scale n columns.
        step: pixels of the image between these.
        backend: ``reference`` is torch, ``cpu`` our kernel for float32; ``auto`` as in `ops.backends`.
    """
    return INVERT_FIELD.choose(backend, planes)(planes, places, jacobian, scale, step)


def remap(
    images: Float[Tensor, "B C H W"],
    labels: UInt8[Tensor, "B H W"],
    flow: Float[Tensor, "B 2 m n"],
    log_gain: Float[Tensor, "B 1 m n"],
    lit: int,
    colour: Sequence[float],
    *,
    backend: str = "auto",
) -> tuple[Float[Tensor, "B C H W"], UInt8[Tensor, "B H W"]]:
    """Moved pixels, one kind of them relit, and their labels.

    Args:
        images: RGB, and further channels that are moved only.
        labels: parsing.
        flow: offset (x, y) in pixels to each pixel's source, at full or half resolution.
        log_gain: for relit pixels, of the same resolution.
        lit: their label.
        colour: what multiplies the gain of red, green and blue.
        backend: as of :func:`invert_field`.
    """
    chosen = REMAP.choose(backend, images, channels=images.shape[1])
    return chosen(images, labels, flow, log_gain, lit, colour)


def sources(flow: Float[Tensor, "B 2 m n"], height: int, width: int) -> Float[Tensor, "B H W 2"]:
    """Source of each pixel in `grid_sample`'s units, -1 to 1 over the image.

    Args:
        flow: offset (x, y) in pixels to each pixel's source, at full or half resolution.
        height: of the image.
        width: of the image.
    """
    if flow.shape[3] < width:
        flow = F.interpolate(flow, scale_factor=2, mode="bilinear")
    rows = torch.arange(height, device=flow.device, dtype=flow.dtype) + 0.5
    columns = torch.arange(width, device=flow.device, dtype=flow.dtype) + 0.5
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], 0)
    pixels = grid + flow[..., :height, :width]
    return (pixels.permute(0, 2, 3, 1) / flow.new_tensor([width, height])) * 2 - 1
