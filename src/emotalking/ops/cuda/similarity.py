"""The CUDA kernels behind `emotalking.ops.similarity`."""

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from emotalking.ops.cuda.build import Launch, kernel
from emotalking.ops.reference.ssim import RADIUS, window

_TILE = 16
_TAPS = 2 * RADIUS + 1


class _Window(ctypes.Structure):
    """``struct Window`` of similarity.cu."""

    _fields_ = (("weights", ctypes.c_float * _TAPS),)


@cache
def _window() -> _Window:
    return _Window((ctypes.c_float * _TAPS)(*window(torch.float64).tolist()))


def _kernel(name: str, image: Tensor) -> Launch:
    return kernel("similarity.cu", name, (f"CHANNELS={image.shape[2]}",), image.device.index or 0)


class _Compare(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, target: Tensor, boxes: Tensor) -> Tensor:
        height, width, channels = image.shape
        count, tiles = len(boxes), (-(-width // _TILE), -(-height // _TILE))
        sums = image.new_zeros(count, 2)
        derivatives = image.new_empty(count, 3, *image.shape) if ctx.needs_input_grad[0] else None
        _kernel("similarity", image)(
            (*tiles, count * channels), _TILE * _TILE, _window(), height, width, count, image, target, boxes, sums,
            derivatives,
        )  # fmt: skip
        ctx.save_for_backward(image, target, boxes, derivatives)
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grads: Tensor) -> tuple[Tensor, None, None]:
        image, target, boxes, derivatives = ctx.saved_tensors
        height, width, channels = image.shape
        d_image = torch.empty_like(image)
        _kernel("similarity_backward", image)(
            (-(-width // _TILE), -(-height // _TILE), channels), _TILE * _TILE, _window(), height, width, len(boxes),
            image, target, boxes, derivatives, grads.contiguous(), d_image,
        )  # fmt: skip
        return d_image, None, None


def compare_in_boxes(image: Tensor, target: Tensor, boxes: Tensor) -> Tensor:
    """`emotalking.ops.similarity.compare_in_boxes`."""
    if len(boxes) == 0:
        return image.new_zeros(0, 2)
    return _Compare.apply(image.contiguous(), target.contiguous(), boxes.to(image.device, torch.int32).contiguous())
