"""StyleGAN2's low-pass filter (Karras et al. 2020, appendix B), differentiable to any order."""

import functools
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.nn.grad import conv2d_input

FILTER = (1, 3, 3, 1)
"""Low-pass filter of all changes of size, in both directions."""


@functools.cache
def _kernel(device: torch.device, dtype: torch.dtype) -> Float[Tensor, "4 4"]:
    taps = torch.tensor(FILTER, device=device, dtype=dtype) / sum(FILTER)
    return torch.outer(taps, taps)


class _Gather(torch.autograd.Function):
    """The filter and its transpose below are each other's derivatives, of every order.

    With torch's own autograd, GPUs compute the second derivative, which the gradient penalty needs, one channel at a
    time.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, room: int, down: int) -> Tensor:
        ctx.how = x.shape, room, down
        kernel = _kernel(x.device, x.dtype).expand(x.shape[1], 1, -1, -1)
        return F.conv2d(x, kernel, None, down, room, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        return _spread(slopes[0], *ctx.how), None, None


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shape: torch.Size, room: int, down: int) -> Tensor:
        ctx.how = room, down
        kernel = _kernel(x.device, x.dtype).expand(x.shape[1], 1, -1, -1)
        return conv2d_input(shape, kernel, x, down, room, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None, None]:
        return low_pass(slopes[0], ctx.how[0], down=ctx.how[1]), None, None, None


def low_pass(x: Float[Tensor, "B C H W"], room: int, *, down: int = 1) -> Float[Tensor, "B C H2 W2"]:
    """Filter with :data:`FILTER`.

    Args:
        x: images.
        room: zeros before and after, along both axes.
        down: keep every so many-th pixel.
    """
    out = _Gather.apply(x, room, down)
    assert isinstance(out, Tensor)
    return out


def _spread(x: Float[Tensor, "B C H W"], shape: torch.Size, room: int, down: int) -> Tensor:
    """Transpose of :func:`low_pass` of images of that shape."""
    out = _Spread.apply(x, shape, room, down)
    assert isinstance(out, Tensor)
    return out


def double(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C 2*H 2*W"]:
    """Twice the size: zeros between the pixels, one :data:`FILTER`; the mean brightness is kept."""
    return 4 * _spread(x, torch.Size((*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])), 1, 2)
