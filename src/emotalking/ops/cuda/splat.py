"""The CUDA kernels behind `emotalking.ops.splat`.

Nothing is read back by the host and nothing has a capacity, so all of it can be captured in a CUDA graph.
"""

import ctypes

import torch
from jaxtyping import Float
from torch import Tensor

from emotalking.ops.cuda.build import kernel
from emotalking.ops.splat import Look
from emotalking.ops.splatting import settings_of

_TILE, _THREADS = 16, 128


class _Rows(ctypes.Structure):
    """``struct Rows`` of splat.cu."""

    _fields_ = (("start", ctypes.c_void_p), ("image", ctypes.c_longlong), ("row", ctypes.c_int))

    @classmethod
    def of(cls, values: Float[Tensor, "B N n"]) -> "_Rows":
        assert values.stride(-1) == 1
        return cls(values.data_ptr(), values.stride(0), values.stride(1))


@torch.no_grad()
def splat(
    means: Tensor, quats: Tensor, scales: Tensor, look: Look, viewmats: Tensor, K: Tensor, width: int, height: int
) -> Tensor:
    """See :func:`emotalking.ops.splat.splat`."""
    images, count = means.shape[:2]
    device = means.device
    settings = settings_of(count, width, height, 3)
    opacities, sh_rest = look.opacities.contiguous(), look.sh_rest.contiguous()
    sh0 = look.sh0[:, 0].expand(images, count, 3) if look.tint is None else look.sh0[:, 0] + look.tint
    definitions = (f"DEGREE={look.degree}", f"BASES={1 + sh_rest.shape[1]}")
    records, keys = means.new_empty(images, count, 12), means.new_empty(images, count)
    boxes = torch.empty(images, count, dtype=torch.int32, device=device)
    kernel("splat.cu", "project_moved", definitions, device.index or 0)(
        (-(-count // _THREADS), images, 1), _THREADS, settings, *map(_Rows.of, (means, quats, scales)), opacities,
        _Rows.of(sh0), sh_rest, viewmats.contiguous(), K.contiguous(), records, keys, boxes,
    )  # fmt: skip
    order = keys.argsort(dim=1)
    boxes = boxes.gather(1, order)
    layer = means.new_empty(images, height, width, 4)
    kernel("splat.cu", "paint", definitions, device.index or 0)(
        (-(-width // _TILE), -(-height // _TILE), images), _TILE * _TILE, settings, records, boxes, order, layer
    )
    return layer
