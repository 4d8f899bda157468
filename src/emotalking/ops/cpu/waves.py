"""The compiled addition of waves behind `emotalking.ops.waves`."""

import ctypes
from functools import cache

import torch
from torch import Tensor

from emotalking.ops.cpu.build import load_library
from emotalking.ops.waves import Hiding


@cache
def library() -> ctypes.CDLL:
    """The compiled kernel, loaded at the first call.

    Raises:
        NoCompiler: the installation brings none, and there is no working C++ compiler.
    """
    built = load_library("waves.cpp")
    pointer, number = ctypes.c_void_p, ctypes.c_int
    built.add_waves.argtypes = (pointer, pointer, ctypes.c_float, *[number] * 3, pointer, number, pointer)
    built.add_waves.restype = None
    return built


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
