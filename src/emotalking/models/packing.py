"""Numbers of Gaussians as whole numbers for the avatar file: 8 or 16 bits, on a grid of each component.

A step is a power of two and a grid begins at a multiple of it, so that what was read is written again without a change.
Means stay as they are, and so do the networks that move them: a micron more or less changes the order of two Gaussians
at the same depth, and with it a pixel (6 of 255 with 16 bits; the rest together changes 0.5 at the most).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

BITS = {"sh0": 16, "opacity_logits": 16, "raw_scales": 16, "raw_quats": 16, "sh_rest": 8, "normal_residuals": 8}
"""Of each component of a raw parameter (`models.gaussians.PARAMETERS`)."""
GRID = ".grid"
"""End of the name of a packed tensor's grid: [2, 1, ...], the values of 0 and of a step, by component."""
_TYPES = {8: torch.uint8, 16: torch.int16}
_MANTISSA = 22
"""Steps are no finer than this power of two below the largest value, which float32 holds without rounding."""


def pack(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a head with those of :data:`BITS` as whole numbers and their grids."""
    packed: dict[str, Tensor] = {}
    for name, value in weights.items():
        bits = BITS.get(name.rpartition(".gaussians.")[2])
        packed |= {name: value} if bits is None else _packed(name, value.detach().float().cpu(), bits)
    return packed


def _packed(name: str, value: Tensor, bits: int) -> dict[str, Tensor]:
    low, high = value.amin(0, keepdim=True), value.amax(0, keepdim=True)
    largest = torch.maximum(low.abs(), high.abs())
    span = torch.maximum((high - low) / (2**bits - 2), largest * 2.0**-_MANTISSA).clamp_min(2.0**-100)
    step = torch.exp2(torch.log2(span).ceil())
    first = torch.floor(low / step)
    codes = (value / step).round() - first
    stored = codes if bits == 8 else codes - 2**15
    return {name: stored.to(_TYPES[bits]), name + GRID: torch.stack([first * step, step])}


def unpack(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inverse of :func:`pack`; float32. Tensors without a grid (all of files of before version 4) are left as they are.

    Raises:
        ValueError: a grid without whole numbers, or one that does not fit them; finite numbers are not checked.
    """
    weights = {name: value for name, value in tensors.items() if not name.endswith(GRID)}
    for name in tensors.keys() - weights.keys():
        grid, codes = tensors[name], weights.get(name.removesuffix(GRID))
        if codes is None or codes.dtype not in _TYPES.values():
            raise ValueError(f"{name}: no whole numbers of that name")
        if grid.dtype != torch.float32 or grid.shape != (2, 1, *codes.shape[1:]):
            raise ValueError(f"{name}: {grid.dtype} {list(grid.shape)} for {list(codes.shape)}")
        steps = codes.float() if codes.dtype == torch.uint8 else codes.float() + 2**15
        weights[name.removesuffix(GRID)] = steps * grid[1] + grid[0]
    return weights
