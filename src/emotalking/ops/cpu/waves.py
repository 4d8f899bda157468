"""The compiled addition of waves behind `emotalking.ops.waves`."""

import ctypes

import torch
from torch import Tensor

from emotalking.ops.cpu.build import kernels
from emotalking.ops.waves import Hiding

library = kernels("waves.cpp", add_waves="ppfiiipip")


@torch.no_grad()
def add_waves(images: Tensor, waves: Tensor, factors: Tensor, hiding: Hiding) -> Tensor:
    """See :func:`emotalking.ops.waves.add_waves`."""
    images, waves, packed = images.contiguous(), waves.contiguous(), hiding.packed()
    height, width, channels = images.shape[1:]
    out = torch.empty_like(images)
    for image, factor, made in zip(images, factors.tolist(), out, strict=True):
        library().add_waves(
            image.data_ptr(), waves.data_ptr(), factor, width, height, channels, ctypes.addressof(packed),
            torch.get_num_threads(), made.data_ptr(),
        )  # fmt: skip
    return out
