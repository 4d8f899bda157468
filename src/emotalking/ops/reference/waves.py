"""Waves as strong as images hide them, in torch's operations: any device."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from emotalking.ops.waves import STEPS, Hiding


@torch.no_grad()
def add_waves(images: Tensor, waves: Tensor, factors: Tensor, hiding: Hiding) -> Tensor:
    """See :func:`emotalking.ops.waves.add_waves`."""
    out = torch.empty_like(images)
    together = 1 if images.device.type == "cpu" else max(len(images), 1)  # a CPU's caches hold one at a time
    for some, by, made in zip(images.split(together), factors.split(together), out.split(together), strict=True):
        swinging, still = strength(some[..., 1], hiding).unbind(-3)
        change = changes(swinging.mul_(waves[0]).mul_(by[:, None, None]).add_(still.mul_(waves[1])))
        made[..., :3] = change.add_(some[..., :3]).clamp_(0, 255)
        made[..., 3:] = some[..., 3:]
    return out


def strength(green: UInt8[Tensor, "*batch H W"], hiding: Hiding) -> Float[Tensor, "*batch 2 H W"]:
    """Deviation of both waves at each pixel, in grey levels of 255.

    Args:
        green: the image's green channel, which stands for its brightness.
    """
    *batch, height, width = green.shape
    cell = hiding.cell
    level = green.reshape(-1, 1, height, width).float()
    differences = F.pad((level[..., 1:] - level[..., :-1]).abs_(), (0, 1))
    differences[..., :-1, :] += (level[..., 1:, :] - level[..., :-1, :]).abs_()
    texture = _means(differences.clamp_(max=hiding.clip), cell)
    texture = F.avg_pool2d(texture, 3, 1, 1, count_include_pad=False)
    mean = _means(level, cell)
    visible = (torch.minimum(mean - hiding.dark, hiding.bright - mean) / hiding.fade).clamp_(0, 1)
    low, high = hiding.smooth
    shares = ((texture - low) / (high - low)).clamp_(0, 1).mul_(1 - hiding.faint).add_(hiding.faint) * visible
    down, across = (
        torch.exp(-((((torch.arange(count, device=green.device) + 0.5) / count - place) / spread) ** 2) / 2)
        for count, (place, spread) in zip(shares.shape[-2:], (hiding.down, hiding.across), strict=True)
    )
    shares *= 1 + hiding.more * down[:, None] * across
    cells = []
    for growth, cost, distance, strongest in zip(
        hiding.growth, hiding.cost, hiding.distance, hiding.strongest, strict=True
    ):
        some = shares * (1 + texture).pow(growth)
        made = (cost * (1 + texture).pow(-hiding.fall) * some**2).mean((-2, -1), keepdim=True)
        cells.append((some * (distance / made.clamp_(min=1e-9)).sqrt()).clamp_(max=strongest))
    both = torch.cat(cells, 1)
    size = (both.shape[-2] * cell, both.shape[-1] * cell)
    wide = F.interpolate(both, size, mode="bilinear", align_corners=False)[..., :height, :width]
    return wide.reshape(*batch, 2, height, width)


def changes(wanted: Float[Tensor, "*batch H W"]) -> Int[Tensor, "*batch H W 3"]:
    """Levels (int16) by which red, green and blue change the brightness by ``wanted`` levels, in steps of a seventh."""
    steps = (wanted * STEPS).round_()
    levels = (steps / STEPS).floor_()
    left = steps.sub_(levels, alpha=STEPS).to(torch.uint8)
    whole = levels.to(torch.int16)
    return torch.stack([whole + (left >> 1 & 1), whole + (left >> 2), whole + (left & 1)], -1)


def _means(values: Float[Tensor, "B 1 H W"], cell: int) -> Float[Tensor, "B 1 h w"]:
    """Means of cells; those at the right and lower edge may be smaller."""
    return F.avg_pool2d(values, cell, ceil_mode=True, count_include_pad=False)
