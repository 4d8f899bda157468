"""Reference rasterizer in plain torch: any device, any float type, differentiable by autograd."""

from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from emotalking.ops.geometry import to_matrix
from emotalking.ops.splatting import BLUR_2D, FRUSTUM_MARGIN, MAX_ALPHA, MAX_EXTENT, MIN_ALPHA, MIN_TRANSMITTANCE

_TILE = 32
_MAX_PAIRS = 1 << 21  # pixel-Gaussian pairs in memory at once: about 100 MB with all intermediates


class Projected(NamedTuple):
    """Gaussians projected into one image."""

    means2d: Tensor  # [N, 2] px
    depths: Tensor  # [N]
    conics: Tensor  # [N, 3]: entries xx, xy, yy of the inverse covariance
    extents: Tensor  # [N, 2] px, half sizes of the box outside which alpha < MIN_ALPHA
    radii: Tensor  # [N] int32 px, 0 = culled


def project_gaussians(
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, viewmat: Tensor, K: Tensor, size: tuple[int, int],
    near: float,
) -> Projected:  # fmt: skip
    """EWA projection (3DGS, arXiv 2308.04079, section 4) into one image of ``size`` (height, width)."""
    height, width = size
    R = viewmat[:3, :3]
    cam = means @ R.T + viewmat[:3, 3]
    in_front = cam[:, 2] >= near
    z = torch.where(in_front, cam[:, 2], torch.ones_like(cam[:, 2]))
    fx, fy = K[0, 0], K[1, 1]
    cx, cy = K[0, 2], K[1, 2]
    u, v = cam[:, 0] / z, cam[:, 1] / z

    margin_x, margin_y = FRUSTUM_MARGIN * 0.5 * width / fx, FRUSTUM_MARGIN * 0.5 * height / fy
    u_lin = u.clamp(-cx / fx - margin_x, (width - cx) / fx + margin_x)
    v_lin = v.clamp(-cy / fy - margin_y, (height - cy) / fy + margin_y)
    zero = torch.zeros_like(z)
    J = torch.stack((fx / z, zero, -fx * u_lin / z, zero, fy / z, -fy * v_lin / z), dim=-1).reshape(-1, 2, 3)

    axes = J @ R @ (to_matrix(quats) * scales[:, None, :])
    cov = axes @ axes.transpose(-1, -2)
    xx = cov[:, 0, 0] + BLUR_2D
    xy = cov[:, 0, 1]
    yy = cov[:, 1, 1] + BLUR_2D
    det = xx * yy - xy * xy
    means2d = torch.stack((fx * u + cx, fy * v + cy), dim=-1)
    conics = torch.stack((yy, -xy, xx), dim=-1) / det[:, None]

    with torch.no_grad():
        sigmas = (2 * (opacities / MIN_ALPHA).clamp(min=1).log()).sqrt().clamp(max=MAX_EXTENT)
        extents = sigmas[:, None] * torch.stack((xx, yy), dim=-1).sqrt()
        radii = extents.ceil()
        corner = means2d.new_tensor((width, height))
        on_screen = ((means2d + radii > 0) & (means2d - radii < corner)).all(dim=-1)
        visible = in_front & (det > 0) & (opacities >= MIN_ALPHA) & on_screen
        radii = torch.where(visible, radii.amax(dim=-1), zero).clamp(max=2**30).to(torch.int32)
    return Projected(means2d, z, conics, extents, radii)


def _blend(
    pixels: Tensor, means2d: Tensor, conics: Tensor, opacities: Tensor, values: Tensor, free: int
) -> tuple[Tensor, Tensor]:
    """Composite Gaussians, sorted front to back, at ``pixels [P, 2]``: values ``[P, D]`` and transmittance ``[P]``.

    Only the first ``free`` values give gradient to the weights.
    """
    dx, dy = (pixels[:, None, :] - means2d).unbind(-1)
    a, b, c = conics.unbind(-1)
    power = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
    alpha = (opacities * torch.exp(-power)).clamp(max=MAX_ALPHA)
    alpha = alpha * (alpha >= MIN_ALPHA)
    # T after each Gaussian only falls, so the kept ones are the first ones: blending stops, it never resumes.
    log_T = torch.log1p(-alpha).cumsum(dim=-1)
    alpha = alpha * (log_T.exp() > MIN_TRANSMITTANCE)
    log_T = torch.log1p(-alpha).cumsum(dim=-1)
    T_before = torch.cat((torch.ones_like(alpha[:, :1]), log_T[:, :-1].exp()), dim=-1)
    weights = alpha * T_before
    image = torch.cat((weights @ values[:, :free], weights.detach() @ values[:, free:]), dim=-1)
    return image, log_T[:, -1].exp()


def _render_image(
    projected: Projected, opacities: Tensor, values: Tensor, size: tuple[int, int], free: int
) -> tuple[Tensor, Tensor]:
    """Composite ``values [N, D]``: ``[H, W, D]`` and transmittance ``[H, W]``, tile by tile to bound memory."""
    height, width = size
    ids = projected.radii.nonzero().squeeze(-1)
    ids = ids[projected.depths.detach()[ids].argsort(stable=True)]
    low, high = (
        (projected.means2d - projected.extents).detach()[ids],
        (projected.means2d + projected.extents).detach()[ids],
    )
    # Zero, but part of the autograd graph: an image in which nothing is visible has zero gradients, not none.
    blank = torch.cat((values.sum(dim=0) * 0, 1 + opacities.sum()[None] * 0))
    rows: list[Tensor] = []
    for y0, x0 in product(range(0, height, _TILE), range(0, width, _TILE)):
        y1, x1 = min(y0 + _TILE, height), min(x0 + _TILE, width)
        ys = torch.arange(y0, y1, device=values.device, dtype=values.dtype) + 0.5
        xs = torch.arange(x0, x1, device=values.device, dtype=values.dtype) + 0.5
        pixels = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1).reshape(-1, 2)
        near_tile = ids[(low[:, 0] <= x1) & (high[:, 0] >= x0) & (low[:, 1] <= y1) & (high[:, 1] >= y0)]
        if len(near_tile) == 0:
            rows.append(blank.expand(len(pixels), -1))
            continue
        part = (projected.means2d[near_tile], projected.conics[near_tile], opacities[near_tile], values[near_tile])
        for chunk in pixels.split(max(1, _MAX_PAIRS // len(near_tile))):
            # Recomputing in the backward pass keeps the memory of one chunk instead of that of the whole image.
            out, T = checkpoint(_blend, chunk, *part, free, use_reentrant=False)  # type: ignore[misc]
            rows.append(torch.cat((out, T[:, None]), dim=1))
    flat = torch.cat(rows)
    image = flat[_tile_order(height, width).to(flat.device)].reshape(height, width, -1)
    return image[..., :-1], image[..., -1]


def _tile_order(height: int, width: int) -> Tensor:
    """Index in the tile-by-tile order of each pixel in row-major order."""
    index = torch.arange(height * width).reshape(height, width)
    tiles = [index[y : y + _TILE, x : x + _TILE].reshape(-1) for y in range(0, height, _TILE)
             for x in range(0, width, _TILE)]  # fmt: skip
    return torch.cat(tiles).argsort()


def rasterize(
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, features: Tensor, viewmats: Tensor, Ks: Tensor,
    width: int, height: int, background: Tensor | None, probe: Tensor | None, near: float, num_detached: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """`emotalking.ops.rasterize.rasterize` on one flat batch axis ``B``: features, alpha, depth, radii."""
    batch, cameras = viewmats.shape[:2]
    size = (height, width)
    images, alphas, depths, radii = [], [], [], []
    for b, c in product(range(batch), range(cameras)):
        projected = project_gaussians(means[b], quats[b], scales[b], opacities[b], viewmats[b, c], Ks[b, c], size, near)
        if probe is not None:
            projected = projected._replace(means2d=projected.means2d + probe[b, c])
        values = torch.cat((projected.depths[:, None], features[b]), dim=-1)
        image, T = _render_image(projected, opacities[b], values, size, values.shape[-1] - num_detached)
        depth, colour = image[..., 0], image[..., 1:]
        if background is not None:
            free = background.numel() - num_detached
            behind = (T[..., None] * background[:free], T.detach()[..., None] * background[free:])
            colour = colour + torch.cat(behind, dim=-1)
        images.append(colour)
        alphas.append(1 - T)
        depths.append(depth)
        radii.append(projected.radii)
    lead = (batch, cameras)
    return (
        torch.stack(images).unflatten(0, lead),
        torch.stack(alphas).unflatten(0, lead),
        torch.stack(depths).unflatten(0, lead),
        torch.stack(radii).unflatten(0, lead),
    )
