"""The compiled composition of layers behind `emotalking.ops.compose`; inference only."""

import ctypes
from functools import cache

import torch
from torch import Tensor

from emotalking.ops.composite import DEPTH, reach_of
from emotalking.ops.cpu.build import load_library


@cache
def library() -> ctypes.CDLL:
    """The compiled kernel, loaded at the first call.

    Raises:
        NoCompiler: the installation brings none, and there is no working C++ compiler.
    """
    built = load_library("compose.cpp")
    pointer, number = ctypes.c_void_p, ctypes.c_int
    built.compose_image.argtypes = (*[pointer] * 3, *[number] * 3, ctypes.c_float, number, *[pointer] * 2)
    built.compose_image.restype = None
    return built


@torch.no_grad()
def compose(face: Tensor, mouth: Tensor, background: Tensor, frame_height: int) -> tuple[Tensor, Tensor]:
    """See :func:`emotalking.ops.compose.compose`."""
    frames, height, width, _ = face.shape
    layers = [each.movedim(-1, 1).contiguous() for each in (face, mouth)]  # as they are drawn: planes
    behind = background.contiguous()
    rgb, alpha = torch.empty_like(behind), behind.new_empty(frames, height, width)
    for frame in range(frames):
        library().compose_image(
            *(each[frame].data_ptr() for each in (*layers, behind)), width, height, reach_of(frame_height), DEPTH,
            torch.get_num_threads(), rgb[frame].data_ptr(), alpha[frame].data_ptr(),
        )  # fmt: skip
    return rgb, alpha
