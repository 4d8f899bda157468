"""gsplat (Apache-2.0) behind `emotalking.ops.rasterize`: a check of our own kernel, and camera gradients.

Written against gsplat 1.5.3, whose functions take leading batch dimensions with different Gaussians.
"""

from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor

from emotalking.ops.splatting import BLUR_2D

_TILE = 16  # gsplat's own default: one thread a pixel, 256 a block


def _gsplat() -> ModuleType:
    """Import gsplat, or raise ImportError with the command that installs it."""
    try:
        return import_module("gsplat")
    except ImportError as error:
        raise ImportError(
            "rendering on a GPU needs cuda-bindings (pip install 'emotalking[gpu]'), or, with backend='gsplat', the "
            "gsplat package (pip install 'emotalking[gsplat]')"
        ) from error


def rasterize(
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, features: Tensor, viewmats: Tensor, Ks: Tensor,
    width: int, height: int, background: Tensor | None, probe: Tensor | None, near: float, num_detached: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """`emotalking.ops.rasterize.rasterize` on one flat batch axis ``B``: features, alpha, depth, radii.

    Depth is one more channel, so that everything is blended in one pass; detached channels need a second pass.
    """
    if num_detached:
        free = features.shape[-1] - num_detached
        behind = (None, None) if background is None else (background[:free], background[free:])
        geometry, cameras = (means, quats, scales, opacities), (viewmats, Ks, width, height)
        first = rasterize(*geometry, features[..., :free], *cameras, behind[0], probe, near, 0)  # type: ignore[arg-type]
        detached = [part.detach() for part in geometry]
        second = rasterize(*detached, features[..., free:], *cameras, behind[1], None, near, 0)  # type: ignore[arg-type]
        return torch.cat((first[0], second[0]), dim=-1), *first[1:]
    gsplat = _gsplat()
    batch, cameras, count, channels = *viewmats.shape[:2], *features.shape[1:]
    if count == 0:
        # Sums of empty tensors: zero, but part of the autograd graph, so that a backward pass works.
        nothing = means.sum() + quats.sum() + scales.sum() + opacities.sum() + features.sum()
        return _empty(nothing, background, (batch, cameras, height, width, channels))
    # Fields of culled Gaussians are left uninitialised; radii 0 keeps every later step from reading them.
    radii, means2d, depths, conics, _ = gsplat.fully_fused_projection(
        means, None, quats, scales, viewmats, Ks, width, height, eps2d=BLUR_2D, near_plane=near, packed=False,
        opacities=opacities,
    )  # fmt: skip
    if probe is not None:
        means2d = means2d + probe
    tiles_x, tiles_y = -(-width // _TILE), -(-height // _TILE)
    images = batch * cameras
    _, intersections, flatten_ids = gsplat.isect_tiles(means2d, radii, depths, _TILE, tiles_x, tiles_y)
    offsets = gsplat.isect_offset_encode(intersections, images, tiles_x, tiles_y)

    lead = (batch, cameras)
    values = torch.cat((features[:, None].expand(*lead, count, channels), depths[..., None]), dim=-1)
    behind = None
    if background is not None:
        behind = torch.cat((background, background.new_zeros(1))).expand(*lead, channels + 1)
    blended, alpha = gsplat.rasterize_to_pixels(
        means2d, conics, values, opacities[:, None].expand(*lead, count), width, height, _TILE,
        offsets.reshape(*lead, tiles_y, tiles_x), flatten_ids, backgrounds=behind, packed=False,
    )  # fmt: skip
    visible = torch.where((radii > 0).all(dim=-1), radii.amax(dim=-1), 0)
    return blended[..., :channels], alpha.squeeze(-1), blended[..., channels], visible


def _empty(
    nothing: Tensor, background: Tensor | None, shape: tuple[int, int, int, int, int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The image of no Gaussians."""
    image = nothing.new_zeros(shape) + nothing
    if background is not None:
        image = image + background
    alpha, depth = nothing.new_zeros(shape[:-1]), nothing.new_zeros(shape[:-1])
    return image, alpha, depth, torch.zeros(*shape[:2], 0, dtype=torch.int32, device=nothing.device)
