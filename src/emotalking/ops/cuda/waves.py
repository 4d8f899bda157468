"""The CUDA kernels behind `emotalking.ops.waves`: three launches whatever the number of images."""

import torch
from torch import Tensor

from emotalking.ops.cuda.build import kernel
from emotalking.ops.waves import Hiding

_THREADS = 256
_CELLS_A_BLOCK = _THREADS // 32


@torch.no_grad()
def add_waves(images: Tensor, waves: Tensor, factors: Tensor, hiding: Hiding) -> Tensor:
    """See :func:`emotalking.ops.waves.add_waves`."""
    images, waves, packed = images.contiguous(), waves.contiguous(), hiding.packed()
    factors, device = factors.contiguous(), images.device.index or 0
    count, height, width, channels = images.shape
    rows, columns = (-(-side // hiding.cell) for side in (height, width))
    definitions = (f"CHANNELS={channels}",)
    measured, strengths = waves.new_empty(2, count, 2, rows, columns)
    out = torch.empty_like(images)
    kernel("waves.cu", "measure", definitions, device)(
        (-(-rows * columns // _CELLS_A_BLOCK), count, 1),
        _THREADS,
        height,
        width,
        rows,
        columns,
        packed,
        images,
        measured,
    )
    kernel("waves.cu", "strengths", definitions, device)(
        (count, 1, 1), _THREADS, rows, columns, packed, measured, strengths
    )
    kernel("waves.cu", "add", definitions, device)(
        (-(-height * width // _THREADS), count, 1), _THREADS, height, width, rows, columns, packed, images, waves,
        factors, strengths, out,
    )  # fmt: skip
    return out
