"""The compiled rasterizer behind `emotalking.ops.rasterize`: ctypes and autograd around ``rasterize.cpp``."""

import ctypes
from functools import cache, partial
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from emotalking.ops.cpu.build import load_library
from emotalking.ops.splatting import RasterSettings, in_passes

MAX_CHANNELS = 16
"""Channels of one pass of the kernel; more are rendered in several passes."""
MAX_SIDE = 32767
"""Rows and columns are counted in 16 bits."""


@cache
def library() -> ctypes.CDLL:
    """The compiled kernel, loaded at the first call.

    Raises:
        NoCompiler: the installation brings none, and there is no working C++ compiler.
    """
    built = load_library("rasterize.cpp")
    pointer, settings = ctypes.c_void_p, ctypes.POINTER(RasterSettings)
    built.rasterize_forward.argtypes = (settings, *[pointer] * 9, ctypes.c_int, *[pointer] * 4)
    built.rasterize_forward.restype = pointer
    built.rasterize_free.argtypes = (pointer,)
    built.rasterize_free.restype = None
    built.rasterize_backward.argtypes = (settings, *[pointer] * 19)
    built.rasterize_backward.restype = None
    return built


class _State:
    """Owner of the kernel's state after a forward pass (projections, order, tiles)."""

    def __init__(self, pointer: int) -> None:
        self.pointer = pointer
        self._free = library().rasterize_free

    def __del__(self) -> None:
        self._free(self.pointer)


def _address(tensor: Tensor | None) -> int | None:
    """Address of the data; the kernel reads contiguous rows."""
    if tensor is None:
        return None
    assert tensor.is_contiguous()
    return tensor.data_ptr()


class _Rasterize(torch.autograd.Function):
    """All images of a flat batch, one after the other; the kernel spreads each over the threads."""

    @staticmethod
    def forward(
        ctx: Any, means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, features: Tensor,
        background: Tensor | None, probe: Tensor | None, viewmats: Tensor, Ks: Tensor, settings: RasterSettings,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        batch, cameras, count, channels = *viewmats.shape[:2], *features.shape[1:]
        width, height = settings.width, settings.height
        image = means.new_empty(batch, cameras, height, width, channels)
        alpha, depth = (means.new_empty(batch, cameras, height, width) for _ in range(2))
        radii = torch.empty(batch, cameras, count, dtype=torch.int32)
        keep = any(ctx.needs_input_grad)
        states = []
        for b, c in product(range(batch), range(cameras)):
            inputs = (means[b], quats[b], scales[b], opacities[b], features[b], viewmats[b, c], Ks[b, c], background)
            pointer = library().rasterize_forward(
                settings, *map(_address, inputs), _address(None if probe is None else probe[b, c]), keep,
                *map(_address, (image[b, c], alpha[b, c], depth[b, c], radii[b, c])),
            )  # fmt: skip
            if keep:
                states.append(_State(pointer))
        ctx.save_for_backward(means, quats, scales, opacities, background, viewmats, Ks, image, alpha, depth)
        ctx.states = states
        ctx.settings = settings
        ctx.feature_shape = features.shape
        ctx.has_probe = probe is not None
        ctx.mark_non_differentiable(radii)
        ctx.set_materialize_grads(False)
        return image, alpha, depth, radii

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, g_image: Tensor | None, g_alpha: Tensor | None, g_depth: Tensor | None, _: None
    ) -> tuple[Tensor | None, ...]:
        means, quats, scales, opacities, background, viewmats, Ks, image, alpha, depth = ctx.saved_tensors
        batch, cameras = viewmats.shape[:2]
        g_image = torch.zeros_like(image) if g_image is None else g_image.contiguous()
        g_alpha = torch.zeros_like(alpha) if g_alpha is None else g_alpha.contiguous()
        g_depth = None if g_depth is None else g_depth.contiguous()
        grads = [torch.zeros_like(tensor) for tensor in (means, quats, scales, opacities)]
        grads.append(means.new_zeros(ctx.feature_shape))
        d_probe = means.new_zeros(batch, cameras, means.shape[1], 2) if ctx.has_probe else None
        for state, (b, c) in zip(ctx.states, product(range(batch), range(cameras)), strict=True):
            tensors = (
                means[b], quats[b], scales[b], opacities[b], viewmats[b, c], Ks[b, c], image[b, c], alpha[b, c],
                depth[b, c], g_image[b, c], g_alpha[b, c], None if g_depth is None else g_depth[b, c],
                *(grad[b] for grad in grads), None if d_probe is None else d_probe[b, c],
            )  # fmt: skip
            library().rasterize_backward(ctx.settings, state.pointer, *map(_address, tensors))
        d_background = None
        if background is not None and ctx.needs_input_grad[5]:
            d_background = torch.einsum("bchw,bchwd->d", 1 - alpha, g_image)
        return *grads, d_background, d_probe, None, None, None


rasterize = partial(in_passes, _Rasterize.apply, "cpu", MAX_SIDE, MAX_CHANNELS)
"""See :func:`emotalking.ops.splatting.in_passes`."""
