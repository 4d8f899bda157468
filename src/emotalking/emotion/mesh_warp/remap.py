"""Fetch every pixel of an edited picture, its label and its normal, from where it comes."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from emotalking.data.labels import Label
from emotalking.emotion.mesh_warp.shading import COLOUR


def remap(
    images: Float[Tensor, "B 3 H W"],
    labels: UInt8[Tensor, "B H W"],
    flow: Float[Tensor, "B 2 m n"],
    log_gain: Float[Tensor, "B 1 m n"],
) -> tuple[Float[Tensor, "B 3 H W"], UInt8[Tensor, "B H W"]]:
    """Moved pixels, skin relit, and their labels.

    Args:
        images: RGB.
        labels: parsing.
        flow: offset (x, y) in pixels to where each pixel comes from, at full or half resolution.
        log_gain: for skin, of the same resolution.
    """
    height, width = images.shape[2:]
    skin = (labels == Label.HEAD).to(images.dtype)[:, None]
    skin = F.avg_pool2d(skin, 5, stride=1, padding=2, count_include_pad=False)
    if log_gain.shape[3] < width:
        log_gain = F.interpolate(log_gain, scale_factor=2, mode="bilinear")
    log_gain = log_gain[..., :height, :width]
    where = _sources(flow, height, width)
    new = F.grid_sample(torch.cat([images, skin], 1), where, mode="bicubic", padding_mode="border", align_corners=False)
    gain = torch.exp(log_gain * new[:, 3:].clamp(0, 1) * new.new_tensor(COLOUR)[:, None, None])
    moved_labels = F.grid_sample(
        labels[:, None].to(images.dtype), where, mode="nearest", padding_mode="border", align_corners=False
    )
    return new[:, :3] * gain, moved_labels[:, 0].round().to(torch.uint8)


def remap_normals(
    normals: Float[Tensor, "B 3 H W"], flow: Float[Tensor, "B 2 m n"], turn: Float[Tensor, "B 3 m n"]
) -> Float[Tensor, "B 3 H W"]:
    """Moved and turned normals.

    Args:
        normals: unit vectors, zero where unknown.
        flow: see :func:`remap`.
        turn: change of the unit normal of what each pixel shows, of the flow's resolution, in the normals' space.

    Returns:
        Unit vectors; zero where more than half was unknown.
    """
    height, width = normals.shape[2:]
    if turn.shape[3] < width:
        turn = F.interpolate(turn, scale_factor=2, mode="bilinear")
    new = F.grid_sample(
        normals, _sources(flow, height, width), mode="bilinear", padding_mode="zeros", align_corners=False
    )
    # Written out: `norm` over channels is many times slower.
    length2 = new.square().sum(1, keepdim=True)
    turned = new * length2.clamp_min(1e-12).rsqrt() + turn[..., :height, :width]
    turned = turned * turned.square().sum(1, keepdim=True).clamp_min(1e-12).rsqrt()
    return torch.where(length2 > 0.25, turned, 0.0)


def _sources(flow: Float[Tensor, "B 2 m n"], height: int, width: int) -> Float[Tensor, "B H W 2"]:
    """Where each pixel comes from, as `grid_sample` counts: -1 to 1 over the picture."""
    if flow.shape[3] < width:
        flow = F.interpolate(flow, scale_factor=2, mode="bilinear")
    rows = torch.arange(height, device=flow.device, dtype=flow.dtype) + 0.5
    columns = torch.arange(width, device=flow.device, dtype=flow.dtype) + 0.5
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], 0)
    pixels = grid + flow[..., :height, :width]
    return (pixels.permute(0, 2, 3, 1) / flow.new_tensor([width, height])) * 2 - 1
