"""Resampling of a warped frame: template point of every pixel, and its normal."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from emotalking.ops.warp import sources

_DEPTH_STEPS = 1 << 20


def rasterize_attributes(
    points: Float[Tensor, "B V 2"],
    depth: Float[Tensor, "B V"],
    attributes: Float[Tensor, "B V D"],
    triangles: Int[Tensor, "T 3"],
    height: int,
    width: int,
) -> Float[Tensor, "B H W D"]:
    """Interpolate vertex attributes over a mesh's image; pixels that no triangle covers get zero.

    Every triangle is expanded into the pixels of its bounding box, so the work follows the covered area and not
    triangles x pixels; the nearest triangle wins by an integer minimum, which is the same on every device and run.

    Args:
        points: vertices, (x, y) in pixels, pixel centres at .5.
        depth: distance from the camera, positive.
        attributes: what to interpolate.
        triangles: vertex indices, any winding.
        height: of the output.
        width: of the output.
    """
    batch, count = points.shape[0], triangles.shape[0]
    corners = points[:, triangles] - 0.5  # [B, T, 3, 2], pixel centres on integers
    limit = corners.new_tensor([width - 1, height - 1])
    low = corners.amin(2).ceil().clamp(min=0)
    high = torch.minimum(corners.amax(2).floor(), limit)
    box = (high - low + 1).clamp(min=0).long()  # [B, T, 2]
    pixels = (box[..., 0] * box[..., 1]).flatten()
    owner = torch.repeat_interleave(torch.arange(batch * count, device=points.device), pixels)
    rank = torch.arange(owner.numel(), device=points.device) - (pixels.cumsum(0) - pixels)[owner]
    columns = box[..., 0].flatten()[owner]
    low = low.long().flatten(0, 1)[owner]
    x, y = low[:, 0] + rank % columns, low[:, 1] + rank // columns

    bary = _barycentric(corners.flatten(0, 1)[owner], x, y)
    inside = (bary >= -1e-5).all(1).nonzero()[:, 0]
    owner = owner[inside]
    bary = bary[inside]
    x = x[inside]
    y = y[inside]
    image, face = owner // count, owner % count
    pixel = (image * height + y) * width + x

    corner_depth = depth[image[:, None], triangles[face]]
    span = depth.amax() - depth.amin()
    z = ((corner_depth * bary).sum(1) - depth.amin()) / span.clamp(min=1e-12)
    key = (z.clamp(0, 1) * _DEPTH_STEPS).long() * count + face
    nearest = torch.full((batch * height * width,), torch.iinfo(torch.int64).max, device=points.device)
    nearest.scatter_reduce_(0, pixel, key, "amin")
    wins = (nearest[pixel] == key).nonzero()[:, 0]

    image = image[wins]
    face = face[wins]
    bary = bary[wins]
    pixel = pixel[wins]
    values = (attributes[image[:, None], triangles[face]] * bary[..., None]).sum(1)
    out = attributes.new_zeros(batch * height * width, attributes.shape[2])
    out[pixel] = values
    return out.view(batch, height, width, -1)


def _barycentric(corners: Float[Tensor, "P 3 2"], x: Int[Tensor, " P"], y: Int[Tensor, " P"]) -> Float[Tensor, "P 3"]:
    """Barycentric coordinates of pixel centres; degenerate triangles give values that are never inside."""
    a, b, c = corners.unbind(1)
    pixel = torch.stack([x, y], 1).to(corners.dtype)
    area = _cross(b - a, c - a)
    ok = area.abs() > 1e-9
    area = torch.where(ok, area, 1.0)
    wb, wc = _cross(pixel - a, c - a) / area, _cross(b - a, pixel - a) / area
    bary = torch.stack([1 - wb - wc, wb, wc], 1)
    return torch.where(ok[:, None], bary, -1.0)


def _cross(p: Float[Tensor, "P 2"], q: Float[Tensor, "P 2"]) -> Float[Tensor, " P"]:
    return p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]


def remap_normals(
    normals: Float[Tensor, "B 3 H W"], flow: Float[Tensor, "B 2 m n"], turn: Float[Tensor, "B 3 m n"]
) -> Float[Tensor, "B 3 H W"]:
    """Moved and turned normals.

    Args:
        normals: unit vectors, zero where unknown.
        flow: see :func:`emotalking.ops.warp.remap`.
        turn: change of the unit normal of what each pixel shows, of the flow's resolution, in the normals' space.

    Returns:
        Unit vectors; zero where more than half was unknown.
    """
    height, width = normals.shape[2:]
    if turn.shape[3] < width:
        turn = F.interpolate(turn, scale_factor=2, mode="bilinear")
    new = F.grid_sample(
        normals, sources(flow, height, width), mode="bilinear", padding_mode="zeros", align_corners=False
    )
    # Written out: `norm` over channels is many times slower.
    length2 = new.square().sum(1, keepdim=True)
    turned = new * length2.clamp_min(1e-12).rsqrt() + turn[..., :height, :width]
    turned = turned * turned.square().sum(1, keepdim=True).clamp_min(1e-12).rsqrt()
    return torch.where(length2 > 0.25, turned, 0.0)
