"""The compiled structural similarity behind `emotalking.ops.similarity`."""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from emotalking.ops.cpu.build import kernels
from emotalking.ops.reference.ssim import C1, C2, window

library = kernels("ssim.cpp", ssim_forward="pppffllllippppp", ssim_backward="pppllllippppp")


@cache
def _weights() -> Tensor:
    return window()


class _SSIM(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        similarity = torch.empty_like(a)
        keep = any(ctx.needs_input_grad)
        derivatives = tuple(torch.empty_like(a) for _ in range(4)) if keep else ()
        library().ssim_forward(
            a.data_ptr(), b.data_ptr(), _weights().data_ptr(), C1, C2, *a.shape, torch.get_num_threads(),
            similarity.data_ptr(), *((part.data_ptr() for part in derivatives) if keep else (None,) * 4),
        )  # fmt: skip
        ctx.save_for_backward(a, b, *derivatives)
        return similarity

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, b, d_mean_a, d_mean_b, d_square, d_product = ctx.saved_tensors
        grad = grad.contiguous()
        gradients: list[Tensor | None] = []
        for needed, image, other, d_mean in zip(
            ctx.needs_input_grad, (a, b), (b, a), (d_mean_a, d_mean_b), strict=True
        ):
            if not needed:
                gradients.append(None)
                continue
            out = torch.empty_like(image)
            library().ssim_backward(
                *(tensor.data_ptr() for tensor in (image, other, _weights())), *image.shape, torch.get_num_threads(),
                *(tensor.data_ptr() for tensor in (grad, d_mean, d_square, d_product, out)),
            )  # fmt: skip
            gradients.append(out)
        return gradients[0], gradients[1]


def ssim_map(a: Tensor, b: Tensor) -> Tensor:
    """`emotalking.ops.similarity.ssim` with ``reduction="none"`` for images ``[M, H, W, D]``."""
    return _SSIM.apply(a.contiguous(), b.contiguous())
