"""The compiled tri-plane encoder behind `emotalking.ops.triplane`."""

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from emotalking.ops.cpu.build import kernels

library = kernels("triplane.cpp", triplane_forward="pppppiflip", triplane_backward="pppppiflippp")


@cache
def shape_arrays(scales: tuple[float, ...], strides: tuple[int, ...], offsets: tuple[int, ...]) -> tuple[Any, ...]:
    """The grids' sizes as C arrays."""
    levels = len(scales)
    return (
        (ctypes.c_float * levels)(*scales),
        (ctypes.c_int32 * levels)(*strides),
        (ctypes.c_int32 * (levels + 1))(*offsets),
    )


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, points: Tensor, table: Tensor, spec: tuple[Any, ...], bound: float) -> Tensor:
        levels = len(spec[0])
        features = points.new_empty(len(points), 3 * levels)
        library().triplane_forward(
            points.data_ptr(), table.data_ptr(), *spec, levels, bound, len(points), torch.get_num_threads(),
            features.data_ptr(),
        )  # fmt: skip
        ctx.save_for_backward(points, table)
        ctx.spec, ctx.bound = spec, bound
        return features

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        points, table = ctx.saved_tensors
        grad = grad.contiguous()
        d_points = torch.empty_like(points) if ctx.needs_input_grad[0] else None
        d_table = torch.zeros_like(table) if ctx.needs_input_grad[1] else None
        library().triplane_backward(
            points.data_ptr(), table.data_ptr(), *ctx.spec, len(ctx.spec[0]), ctx.bound, len(points),
            torch.get_num_threads(), grad.data_ptr(), None if d_points is None else d_points.data_ptr(),
            None if d_table is None else d_table.data_ptr(),
        )  # fmt: skip
        return d_points, d_table, None, None


def encode(
    points: Tensor, table: Tensor, scales: tuple[float, ...], strides: tuple[int, ...], offsets: tuple[int, ...],
    bound: float,
) -> Tensor:  # fmt: skip
    """`emotalking.ops.triplane.encode` for points ``[M, 3]``: ``[M, 3 * levels]``."""
    return _Encode.apply(points.contiguous(), table.contiguous(), shape_arrays(scales, strides, offsets), bound)
