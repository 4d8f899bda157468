"""Our own CUDA rasterizer behind `emotalking.ops.rasterize`: autograd around ``rasterize.cu``.

Nothing is read back by the host and nothing has a capacity, so a training step with it can be captured in a CUDA graph.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from emotalking.ops.cuda.build import Launch, kernel
from emotalking.ops.splatting import RasterSettings, in_passes

MAX_CHANNELS = 24
"""Channels of one pass of the kernel; more are rendered in several passes."""
MAX_SIDE = 255 * 16
"""Tiles are counted in eight bits."""
_TILE, _THREADS = 16, 128


def _kernel(name: str, device: torch.device, channels: int, num_detached: int = 0, depth: bool = False) -> Launch:
    definitions = (f"CHANNELS={channels}", f"NUM_DETACHED={num_detached}", f"DEPTH={int(depth)}")
    return kernel("rasterize.cu", name, definitions, device.index or 0)


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, features: Tensor,
        background: Tensor | None, probe: Tensor | None, viewmats: Tensor, Ks: Tensor, settings: RasterSettings,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        batch, cameras, count, channels = *viewmats.shape[:2], *features.shape[1:]
        images, device = batch * cameras, means.device
        width, height = settings.width, settings.height
        records = means.new_empty(images, count, 8)
        keys, boxes = means.new_empty(images, count), torch.empty(images, count, dtype=torch.int32, device=device)
        radii = torch.empty(batch, cameras, count, dtype=torch.int32, device=device)
        _kernel("project_all", device, channels, settings.num_detached)(
            (-(-images * count // _THREADS), 1, 1), _THREADS, settings, images, cameras, means, quats, scales,
            opacities, viewmats, Ks, probe, records, keys, boxes, radii,
        )  # fmt: skip
        order = keys.argsort(dim=1)
        boxes = boxes.gather(1, order)
        image = means.new_empty(batch, cameras, height, width, channels)
        alpha, depth = (means.new_empty(batch, cameras, height, width) for _ in range(2))
        last = torch.empty(images, height, width, dtype=torch.int32, device=device)
        grid = (-(-width // _TILE), -(-height // _TILE), images)
        _kernel("blend", device, channels, settings.num_detached)(
            grid, _TILE * _TILE, settings, cameras, records, boxes, order, features, background, image, alpha, depth,
            last,
        )  # fmt: skip
        ctx.save_for_backward(
            means, quats, scales, opacities, features, background, viewmats, Ks, image, alpha, depth, records, boxes,
            order, last, radii,
        )  # fmt: skip
        ctx.settings = settings
        ctx.grid = grid
        ctx.has_probe = probe is not None
        ctx.mark_non_differentiable(radii)
        ctx.set_materialize_grads(False)
        return image, alpha, depth, radii

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, g_image: Tensor | None, g_alpha: Tensor | None, g_depth: Tensor | None, _: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        means, quats, scales, opacities, features, background, viewmats, Ks, *made = ctx.saved_tensors
        image, alpha, depth, records, boxes, order, last, radii = made
        batch, cameras, count, channels = *viewmats.shape[:2], *features.shape[1:]
        device, deep = means.device, g_depth is not None
        g_image, g_alpha, g_depth = (None if g is None else g.contiguous() for g in (g_image, g_alpha, g_depth))
        sums = means.new_zeros(batch * cameras, count, 6 + deep + channels)
        _kernel("blend_backward", device, channels, ctx.settings.num_detached, deep)(
            ctx.grid, _TILE * _TILE, ctx.settings, cameras, records, boxes, order, features, image, alpha, depth, last,
            g_image, g_alpha, g_depth, sums,
        )  # fmt: skip
        grads = [torch.empty_like(part) for part in (means, quats, scales, opacities, features)]
        d_probe = means.new_empty(batch, cameras, count, 2) if ctx.has_probe else None
        _kernel("project_all_backward", device, channels, ctx.settings.num_detached, deep)(
            (-(-batch * count // _THREADS), 1, 1), _THREADS, ctx.settings, batch, cameras, means, quats, scales,
            opacities, viewmats, Ks, records, radii, sums, *grads, d_probe,
        )  # fmt: skip
        d_background = None
        if background is not None and ctx.needs_input_grad[5] and g_image is not None:
            d_background = torch.einsum("bchw,bchwd->d", 1 - alpha, g_image)
        return *grads, d_background, d_probe, None, None, None


rasterize = partial(in_passes, _Rasterize.apply, "cuda", MAX_SIDE, MAX_CHANNELS)
"""See :func:`emotalking.ops.splatting.in_passes`."""
