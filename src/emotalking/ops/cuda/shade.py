"""The CUDA kernels behind `emotalking.ops.sh.view_colours` and `emotalking.ops.normals.camera_normals`."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from emotalking.ops.cuda.build import Argument, kernel

_THREADS = 128


def _launch(name: str, rows: int, degree: int, bases: int, *arguments: Argument) -> None:
    """The kernel ``name``, a thread a row."""
    device = next(part for part in arguments if isinstance(part, Tensor)).device
    run = kernel("shade.cu", name, (f"DEGREE={degree}", f"BASES={bases}"), device.index or 0)
    run((-(-rows // _THREADS), 1, 1), _THREADS, *arguments)


class _Colours(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, sh0: Tensor, sh_rest: Tensor, means: Tensor, centres: Tensor, degree: int) -> Tensor:
        batch, count = means.shape[:2]
        out = torch.empty_like(means)
        parts = (batch, count, means, centres, sh0, sh_rest)
        _launch("colours", batch * count, degree, 1 + sh_rest.shape[1], *parts, out)
        ctx.save_for_backward(sh0, sh_rest, means, centres)
        ctx.degree = degree
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        sh0, sh_rest, means, centres = ctx.saved_tensors
        batch, count = means.shape[:2]
        d_sh0, d_rest = torch.empty_like(sh0), torch.empty_like(sh_rest)
        parts = (batch, count, means, centres, sh0, sh_rest, grad.contiguous())
        _launch("colours_backward", count, ctx.degree, 1 + sh_rest.shape[1], *parts, d_sh0, d_rest)
        return d_sh0, d_rest, None, None, None


class _Normals(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, quats: Tensor, scales: Tensor, means: Tensor, views: Tensor, residuals: Tensor) -> Tensor:
        batch, count = means.shape[:2]
        out = torch.empty_like(means)
        _launch("normals", batch * count, 0, 1, batch, count, quats, scales, means, views, residuals, out)
        ctx.save_for_backward(quats, scales, means, views, residuals)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, Tensor]:
        quats, _, means, _, residuals = saved = ctx.saved_tensors
        batch, count = means.shape[:2]
        d_quats, d_residuals = torch.empty_like(quats), torch.empty_like(residuals)
        _launch("normals_backward", count, 0, 1, batch, count, *saved, grad.contiguous(), d_quats, d_residuals)
        return d_quats, None, None, None, d_residuals


def view_colours(sh0: Tensor, sh_rest: Tensor, means: Tensor, centres: Tensor, degree: int) -> Tensor:
    """`emotalking.ops.sh.view_colours`."""
    parts = (sh0, sh_rest, means.detach(), centres.detach())
    return _Colours.apply(*(part.contiguous() for part in parts), degree)


def camera_normals(quats: Tensor, scales: Tensor, means: Tensor, viewmats: Tensor, residuals: Tensor) -> Tensor:
    """`emotalking.ops.normals.camera_normals`."""
    parts = (quats, scales.detach(), means.detach(), viewmats.detach(), residuals)
    return _Normals.apply(*(part.contiguous() for part in parts))
