"""Layers over a background as the differentiable operation has it: any device, any float type."""

import torch
from torch import Tensor

from emotalking.ops.composite import composite


@torch.no_grad()
def compose(face: Tensor, mouth: Tensor, background: Tensor, frame_height: int) -> tuple[Tensor, Tensor]:
    """See :func:`emotalking.ops.compose.compose`."""
    layers = (face[..., :3], face[..., 3], mouth[..., :3], mouth[..., 3])
    return composite(*layers, background, frame_height=frame_height)


def lay_over(layers: Tensor, plate: Tensor) -> Tensor:
    """See :func:`emotalking.ops.compose.lay_over`."""
    straight = layers.to(plate.dtype) / 255.0
    alpha = straight[..., 3:]
    return straight[..., :3] * alpha + plate * (1.0 - alpha)
