"""The compiled rasterizer behind `emotalking.ops.rasterize`: ctypes and autograd around ``rasterize.cpp``."""

import ctypes
from functools import cache
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from emotalking.ops import constants
from emotalking.ops.cpu.build import load_library

MAX_CHANNELS = 16
"""Channels that one pass of the kernel carries; more are rendered in several passes."""
MAX_SIDE = 32767
"""Rows and columns are counted in 16 bits."""


class RasterSettings(ctypes.Structure):
    """Mirror of ``struct Settings`` in projection.h, which the CUDA kernel takes too."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("count", "width", "height", "channels", "held", "threads")),
        *(
            (name, ctypes.c_float)
            for name in ("near", "max_alpha", "min_alpha", "min_transmittance", "blur", "margin", "max_extent")
        ),
    )


@cache
def library() -> ctypes.CDLL:
    """The compiled kernel; built at the first call.

    Raises:
        NoCompiler: there is no working C++ compiler.
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
    """Owner of what the kernel keeps from a forward pass (projections, order, tiles)."""

    def __init__(self, pointer: int) -> None:
        self.pointer = pointer
        self._free = library().rasterize_free

    def __del__(self) -> None:
        self._free(self.pointer)


def _address(tensor: Tensor | None) -> int | None:
    """Where the data lies; the kernel reads dense rows."""
    if tensor is None:
        return None
    assert tensor.is_contiguous()
    return tensor.data_ptr()


def _settings(count: int, width: int, height: int, channels: int, held: int, near: float) -> RasterSettings:
    return RasterSettings(
        count, width, height, channels, held, torch.get_num_threads(), near, constants.MAX_ALPHA, constants.MIN_ALPHA,
        constants.MIN_TRANSMITTANCE, constants.BLUR_2D, constants.FRUSTUM_MARGIN, constants.MAX_EXTENT,
    )  # fmt: skip


class _Rasterize(torch.autograd.Function):
    """All images of a flat batch, one after the other; the kernel spreads each over the threads."""

    @staticmethod
    def forward(
        ctx: Any, means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, features: Tensor,
        background: Tensor | None, probe: Tensor | None, viewmats: Tensor, Ks: Tensor, width: int, height: int,
        near: float, held: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        batch, cameras, count, channels = *viewmats.shape[:2], *features.shape[1:]
        image = means.new_empty(batch, cameras, height, width, channels)
        alpha, depth = (means.new_empty(batch, cameras, height, width) for _ in range(2))
        radii = torch.empty(batch, cameras, count, dtype=torch.int32)
        settings = _settings(count, width, height, channels, held, near)
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
        ctx.states, ctx.settings, ctx.feature_shape, ctx.has_probe = states, settings, features.shape, probe is not None
        ctx.mark_non_differentiable(radii)
        return image, alpha, depth, radii

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_image: Tensor, g_alpha: Tensor, g_depth: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        means, quats, scales, opacities, background, viewmats, Ks, image, alpha, depth = ctx.saved_tensors
        batch, cameras = viewmats.shape[:2]
        g_image, g_alpha, g_depth = g_image.contiguous(), g_alpha.contiguous(), g_depth.contiguous()
        grads = [torch.zeros_like(tensor) for tensor in (means, quats, scales, opacities)]
        grads.append(means.new_zeros(ctx.feature_shape))
        d_probe = means.new_zeros(batch, cameras, means.shape[1], 2) if ctx.has_probe else None
        for state, (b, c) in zip(ctx.states, product(range(batch), range(cameras)), strict=True):
            tensors = (
                means[b], quats[b], scales[b], opacities[b], viewmats[b, c], Ks[b, c], image[b, c], alpha[b, c],
                depth[b, c], g_image[b, c], g_alpha[b, c], g_depth[b, c], *(grad[b] for grad in grads),
                None if d_probe is None else d_probe[b, c],
            )  # fmt: skip
            library().rasterize_backward(ctx.settings, state.pointer, *map(_address, tensors))
        d_background = None
        if background is not None and ctx.needs_input_grad[5]:
            d_background = torch.einsum("bchw,bchwd->d", 1 - alpha, g_image)
        return *grads, d_background, d_probe, None, None, None, None, None, None


def rasterize(
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, features: Tensor, viewmats: Tensor, Ks: Tensor,
    width: int, height: int, background: Tensor | None, probe: Tensor | None, near: float, held: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """`emotalking.ops.rasterize.rasterize` on one flat batch axis ``B``: features, alpha, depth, radii."""
    if max(width, height) > MAX_SIDE:
        raise ValueError(f"width, height: backend='cpu' takes at most {MAX_SIDE} pixels, got {width} x {height}")
    shared = [part.contiguous() for part in (means, quats, scales, opacities)]
    cameras = (viewmats.contiguous(), Ks.contiguous())
    probe = None if probe is None else probe.contiguous()
    free, passes = features.shape[-1] - held, []
    for start in range(0, features.shape[-1], MAX_CHANNELS):
        part = features[..., start : start + MAX_CHANNELS].contiguous()
        behind = None if background is None else background[start : start + MAX_CHANNELS].contiguous()
        still = min(part.shape[-1], max(0, start + part.shape[-1] - free))
        passes.append(_Rasterize.apply(*shared, part, behind, probe, *cameras, width, height, near, still))
    image = passes[0][0] if len(passes) == 1 else torch.cat([images for images, *_ in passes], dim=-1)
    return image, *passes[0][1:]
