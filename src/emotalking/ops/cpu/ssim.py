"""The compiled structural similarity behind `emotalking.ops.similarity`."""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from emotalking.ops.cpu.build import kernels
from emotalking.ops.reference.ssim import C1, C2, window

library = kernels(
    "ssim.cpp",
    ssim_forward="pppffllllippppp",
    ssim_backward="pppllllippppp",
    compare_box="pppffllllipp",
    compare_box_backward="pppllllpp",
)


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


class _Boxes(torch.autograd.Function):
    """Rows (L1, similarity) by box; the gradient of the similarity is made with it, as nearly every step needs it."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, target: Tensor, boxes: list[tuple[int, int, int, int]]) -> Tensor:
        means = image.new_tensor([0.0, 1.0]).repeat(len(boxes), 1)
        slopes = []
        for number, box in enumerate(boxes):
            height, width, *_ = shape = _shape(box, image)
            slopes.append(image.new_empty(height, width, image.shape[2]))
            if slopes[-1].numel():
                library().compare_box(
                    *_corner(box, image, target), _weights().data_ptr(), C1, C2, *shape, torch.get_num_threads(),
                    means[number].data_ptr(), slopes[-1].data_ptr(),
                )  # fmt: skip
        ctx.save_for_backward(image, target, *slopes)
        ctx.boxes = boxes
        return means

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        image, target, *slopes = ctx.saved_tensors
        grad, d_image = grad.contiguous(), torch.zeros_like(image)
        for box, slope, row in zip(ctx.boxes, slopes, grad, strict=True):
            if slope.numel():
                addresses = *_corner(box, image, target), slope.data_ptr()
                into = _corner(box, d_image)
                library().compare_box_backward(*addresses, *_shape(box, image), row.data_ptr(), *into)
        return d_image, None, None


def _shape(box: tuple[int, int, int, int], image: Tensor) -> tuple[int, int, int, int]:
    """Height, width and channels of a box, and the floats from one row of the image to the next."""
    top, left, bottom, right = box
    return bottom - top, right - left, image.shape[2], image.stride(0)


def _corner(box: tuple[int, int, int, int], *images: Tensor) -> tuple[int, ...]:
    """Address of a box's first pixel in each image."""
    return tuple(image[box[0] :, box[1] :].data_ptr() for image in images)


def compare_in_boxes(image: Tensor, target: Tensor, boxes: Tensor) -> Tensor:
    """`emotalking.ops.similarity.compare_in_boxes`."""
    height, width, _ = image.shape
    clipped = boxes.clamp_min(0).minimum(boxes.new_tensor([height, width, height, width]))
    clipped[:, 2:] = clipped[:, 2:].maximum(clipped[:, :2])
    return _Boxes.apply(image.contiguous(), target.contiguous(), [tuple(box) for box in clipped.tolist()])
