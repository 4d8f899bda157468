"""The compiled composition of layers behind `emotalking.ops.compose`; inference only."""

import torch
from torch import Tensor

from emotalking.ops.composite import reach_of
from emotalking.ops.cpu.build import kernels

library = kernels("compose.cpp", compose_image="pppiiiipp", lay_over="pplip")


@torch.no_grad()
def compose(face: Tensor, mouth: Tensor, background: Tensor, frame_height: int) -> tuple[Tensor, Tensor]:
    """See :func:`emotalking.ops.compose.compose`."""
    frames, height, width, _ = face.shape
    layers = [each.movedim(-1, 1).contiguous() for each in (face, mouth)]  # as they are drawn: planes
    behind = background.contiguous()
    rgb, alpha = torch.empty_like(behind), behind.new_empty(frames, height, width)
    for frame in range(frames):
        library().compose_image(
            *(each[frame].data_ptr() for each in (*layers, behind)), width, height, reach_of(frame_height),
            torch.get_num_threads(), rgb[frame].data_ptr(), alpha[frame].data_ptr(),
        )  # fmt: skip
    return rgb, alpha


@torch.no_grad()
def lay_over(layers: Tensor, plate: Tensor) -> Tensor:
    """See :func:`emotalking.ops.compose.lay_over`."""
    layers, behind = layers.contiguous(), plate.expand(*layers.shape[:-1], 3)
    shared = plate.numel() == plate.shape[-3:].numel()
    behind = plate.reshape(plate.shape[-3:]).contiguous() if shared else behind.contiguous()
    out = behind.new_empty(*layers.shape[:-1], 3)
    size = behind.numel() if shared else out.numel()  # of what one plate is behind of
    for start in range(0, out.numel(), size) if size else ():
        library().lay_over(
            layers.data_ptr() + start // 3 * 4, behind.data_ptr(), size // 3, torch.get_num_threads(),
            out.data_ptr() + start * out.element_size(),
        )  # fmt: skip
    return out
