"""Structural similarity in torch: all blurred maps go through one pair of depthwise convolutions."""

import torch
import torch.nn.functional as F
from torch import Tensor

RADIUS = 5
SIGMA = 1.5
C1, C2 = 0.01**2, 0.03**2
"""Constants of Wang et al. 2004 for values in [0, 1]: they keep the ratio finite where an image is black or flat."""


def window(dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Tensor:
    """The eleven weights of the separable Gaussian window; they sum to 1."""
    steps = torch.arange(-RADIUS, RADIUS + 1, dtype=torch.float64, device=device)
    weights = torch.exp(-0.5 * (steps / SIGMA) ** 2)
    return (weights / weights.sum()).to(dtype)


def ssim_map(a: Tensor, b: Tensor) -> Tensor:
    """`emotalking.ops.similarity.ssim` with ``reduction="none"`` for images ``[M, H, W, D]``."""
    a, b = a.movedim(-1, 1), b.movedim(-1, 1)
    maps = torch.cat((a, b, a * a, b * b, a * b), dim=1)
    count = maps.shape[1]
    weights = window(a.dtype, a.device).expand(count, 1, 1, -1)
    blurred = F.conv2d(maps, weights, padding=(0, RADIUS), groups=count)
    blurred = F.conv2d(blurred, weights.movedim(-1, -2), padding=(RADIUS, 0), groups=count)
    mean_a, mean_b, aa, bb, ab = blurred.chunk(5, dim=1)
    var_a = aa - mean_a * mean_a
    var_b = bb - mean_b * mean_b
    cov = ab - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + C1) / (mean_a * mean_a + mean_b * mean_b + C1)
    structure = (2 * cov + C2) / (var_a + var_b + C2)
    return (luminance * structure).movedim(1, -1)
