"""The CUDA kernels that draw moved Gaussians for rendering, without gradient: layers of colour and coverage.

Nothing is read back by the host and nothing has a capacity, so all of it can be captured in a CUDA graph.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from emotalking.ops.cuda.build import kernel
from emotalking.ops.motion import VALUES
from emotalking.ops.splatting import settings_of

_TILE, _THREADS = 16, 128


def splat(
    moved: Float[Tensor, "B N 10"],
    opacities: Float[Tensor, " N"],
    sh0: Float[Tensor, "N 1 3"],
    sh_rest: Float[Tensor, "N R 3"],
    degree: int,
    viewmats: Float[Tensor, "B 4 4"],
    K: Float[Tensor, "3 3"],
    width: int,
    height: int,
    near: float = 0.01,
) -> Float[Tensor, "B H W 4"]:
    """Premultiplied colours and alpha, as :func:`~emotalking.ops.rasterize.rasterize` of the `view_colours`.

    Args:
        moved: means, quaternions and activated scales.
        opacities: in [0, 1].
        degree: highest spherical-harmonic degree; R + 1 >= (degree + 1)^2.
        K: of all cameras.
    """
    images, count = moved.shape[:2]
    device = moved.device
    settings = settings_of(count, width, height, 3, near=near)
    definitions = (f"DEGREE={degree}", f"BASES={1 + sh_rest.shape[1]}")
    assert moved.shape[2] == VALUES and all(part.is_contiguous() for part in (moved, opacities, sh0, sh_rest, K))
    records, keys = moved.new_empty(images, count, 12), moved.new_empty(images, count)
    boxes = torch.empty(images, count, dtype=torch.int32, device=device)
    kernel("splat.cu", "project_moved", definitions, device.index or 0)(
        (-(-count // _THREADS), images, 1), _THREADS, settings, images, moved, opacities, sh0, sh_rest,
        viewmats.contiguous(), K, records, keys, boxes,
    )  # fmt: skip
    order = keys.argsort(dim=1)
    boxes = boxes.gather(1, order)
    layer = moved.new_empty(images, height, width, 4)
    kernel("splat.cu", "paint", definitions, device.index or 0)(
        (-(-width // _TILE), -(-height // _TILE), images), _TILE * _TILE, settings, records, boxes, order, layer
    )
    return layer
