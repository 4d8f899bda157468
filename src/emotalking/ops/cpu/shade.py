"""The compiled colours behind `emotalking.ops.sh.view_colours`."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from emotalking.ops.cpu.build import kernels

library = kernels("shade.cpp", shade_forward="lliiippppp", shade_backward="lliiippppppp")


class _Colours(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, sh0: Tensor, sh_rest: Tensor, means: Tensor, centres: Tensor, degree: int) -> Tensor:
        out = torch.empty_like(means)
        ctx.save_for_backward(sh0, sh_rest, means, centres)
        ctx.degree = degree
        library().shade_forward(*_given(degree, sh0, sh_rest, means, centres), out.data_ptr())
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        sh0, sh_rest, means, centres = ctx.saved_tensors
        grad, d_sh0, d_rest = grad.contiguous(), torch.zeros_like(sh0), torch.zeros_like(sh_rest)
        given = _given(ctx.degree, sh0, sh_rest, means, centres)
        library().shade_backward(*given, grad.data_ptr(), d_sh0.data_ptr(), d_rest.data_ptr())
        return d_sh0, d_rest, None, None, None


def _given(degree: int, sh0: Tensor, sh_rest: Tensor, means: Tensor, centres: Tensor) -> tuple[int, ...]:
    sizes = (*means.shape[:2], (degree + 1) ** 2, 1 + sh_rest.shape[1], torch.get_num_threads())
    return *sizes, *(part.data_ptr() for part in (means, centres, sh0, sh_rest))


def view_colours(sh0: Tensor, sh_rest: Tensor, means: Tensor, centres: Tensor, degree: int) -> Tensor:
    """`emotalking.ops.sh.view_colours`."""
    parts = (sh0, sh_rest, means.detach(), centres.detach())
    return _Colours.apply(*(part.contiguous() for part in parts), degree)
