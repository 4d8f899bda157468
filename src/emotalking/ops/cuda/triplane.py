"""The tri-plane encoder's CUDA kernels behind `emotalking.ops.triplane`."""

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from emotalking.ops.cuda.build import Launch, kernel

_THREADS = 128
_COPIED = 1 << 19
"""Numbers in all copies of a table's gradient."""


@cache
def grid_of(
    scales: tuple[float, ...], strides: tuple[int, ...], offsets: tuple[int, ...], bound: float
) -> ctypes.Structure:
    """``struct Grid`` of triplane.cu."""
    levels = len(scales)

    class Grid(ctypes.Structure):
        _fields_ = (
            ("bound", ctypes.c_float),
            ("entries", ctypes.c_int),
            ("scales", ctypes.c_float * levels),
            ("strides", ctypes.c_int * levels),
            ("offsets", ctypes.c_int * levels),
        )

    floats, ints = ctypes.c_float * levels, ctypes.c_int * levels
    return Grid(bound, offsets[-1], floats(*scales), ints(*strides), ints(*offsets[:-1]))


def _launch(name: str, levels: int, points: Tensor, *arguments: Tensor | ctypes.Structure | int | None) -> None:
    """The kernel ``name`` over all points."""
    lanes = 1 << (levels - 1).bit_length()
    definitions = (f"LEVELS={levels}", f"LANES={lanes}")
    run: Launch = kernel("triplane.cu", name, definitions, points.device.index or 0)
    grid, *others = arguments
    run((-(-len(points) * lanes // _THREADS), 1, 1), _THREADS, grid, len(points), points, *others)


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, points: Tensor, table: Tensor, grid: ctypes.Structure, levels: int) -> Tensor:
        features = points.new_empty(len(points), 3 * levels)
        _launch("encode", levels, points, grid, table, features)
        ctx.save_for_backward(points, table)
        ctx.grid, ctx.levels = grid, levels
        return features

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        points, table = ctx.saved_tensors
        d_points = torch.empty_like(points) if ctx.needs_input_grad[0] else None
        copies = max(1, _COPIED // table.numel())
        d_tables = table.new_zeros(copies, *table.shape) if ctx.needs_input_grad[1] else None
        _launch("encode_backward", ctx.levels, points, ctx.grid, table, grad.contiguous(), d_points, d_tables, copies)
        return d_points, None if d_tables is None else d_tables.sum(0), None, None


def encode(
    points: Tensor, table: Tensor, scales: tuple[float, ...], strides: tuple[int, ...], offsets: tuple[int, ...],
    bound: float,
) -> Tensor:  # fmt: skip
    """`emotalking.ops.triplane.encode` for points ``[M, 3]``, M > 0: ``[M, 3 * levels]``."""
    grid = grid_of(scales, strides, offsets, float(bound))
    return _Encode.apply(points.contiguous(), table.contiguous(), grid, len(scales))
