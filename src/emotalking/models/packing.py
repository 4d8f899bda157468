"""Numbers of Gaussians as whole numbers for the avatar file: 8 or 16 bits, on a grid of each component.

A step is a power of two and a grid begins at a multiple of it, so that what was read is written again without a change.
Means stay as they are, and so do the networks that move them: a micron more or less changes the order of two Gaussians
at the same depth, and with it a pixel (6 of 255 with 16 bits; the rest together changes 0.6 at the most).
"""

from collections.abc import Mapping

import numpy as np

from emotalking.io.safetensors_files import Arrays

BITS = {"sh0": 16, "opacity_logits": 16, "raw_scales": 16, "raw_quats": 16, "sh_rest": 8, "normal_residuals": 8}
"""Of each component of a raw parameter (`models.gaussians.PARAMETERS`)."""
GRID = ".grid"
"""End of the name of a packed array's grid: [2, 1, ...], the values of 0 and of a step, by component."""
_TYPES = {8: np.dtype(np.uint8), 16: np.dtype(np.int16)}
_MANTISSA = 22
"""Steps are no finer than this power of two below the largest value, which float32 holds without rounding."""


def pack(weights: Mapping[str, np.ndarray]) -> Arrays:
    """Weights of a head with those of :data:`BITS` as whole numbers and their grids."""
    packed: Arrays = {}
    for name, value in weights.items():
        bits = BITS.get(name.rpartition(".gaussians.")[2])
        packed |= {name: value} if bits is None else _packed(name, value, bits)
    return packed


def _packed(name: str, value: np.ndarray, bits: int) -> Arrays:
    value = value.astype(np.float32, copy=False)
    low, high = value.min(0, keepdims=True), value.max(0, keepdims=True)
    largest = np.maximum(np.abs(low), np.abs(high))
    finest = np.maximum(largest * np.float32(2.0**-_MANTISSA), np.float32(2.0**-100))
    span = np.maximum(high / (2**bits - 2) - low / (2**bits - 2), finest)
    step = np.exp2(np.ceil(np.log2(span)))
    first = np.floor(low / step)
    codes = np.rint(value / step) - first - (0 if bits == 8 else 2**15)
    with np.errstate(invalid="ignore"):  # numbers that are not finite: their grid is not either, and is refused
        return {name: codes.astype(_TYPES[bits]), name + GRID: np.stack([first * step, step]).astype(np.float32)}


def unpack(arrays: Mapping[str, np.ndarray]) -> Arrays:
    """Inverse of :func:`pack`; float32. Arrays without a grid (all of files of before version 4) are left as they are.

    Raises:
        ValueError: a grid without whole numbers, or one that does not fit them; finite numbers are not checked.
    """
    weights = {name: value for name, value in arrays.items() if not name.endswith(GRID)}
    for name in arrays.keys() - weights.keys():
        grid, codes = arrays[name], weights.get(name.removesuffix(GRID))
        if codes is None or codes.dtype not in _TYPES.values():
            raise ValueError(f"{name}: no whole numbers of that name")
        if grid.dtype != np.float32 or grid.shape != (2, 1, *codes.shape[1:]):
            raise ValueError(f"{name}: {grid.dtype} {list(grid.shape)} for {list(codes.shape)}")
        steps = codes.astype(np.float32)
        if codes.dtype == np.int16:
            steps += 2**15
        with np.errstate(all="ignore"):
            weights[name.removesuffix(GRID)] = steps * grid[1] + grid[0]
    return weights
