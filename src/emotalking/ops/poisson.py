"""Seamless cloning of rectangles (Perez et al. 2003, Poisson image editing), solved exactly by sine transforms."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

RIM = 3
"""Width in pixels of the border in which OpenCV keeps the gradients of the target image."""


def _sines(count: int, like: Tensor) -> tuple[Float[Tensor, "n n"], Float[Tensor, " n"]]:
    """The orthonormal sine transform DST-I, which is its own inverse, and the eigenvalues of the second difference."""
    k = torch.arange(1, count + 1, device=like.device, dtype=torch.float64)
    matrix = torch.sin(k[:, None] * k * (math.pi / (count + 1))) * math.sqrt(2 / (count + 1))
    return matrix.to(like.dtype), (2 - 2 * torch.cos(k * (math.pi / (count + 1)))).to(like.dtype)


def solve_poisson(load: Float[Tensor, "*B m n"]) -> Float[Tensor, "*B m n"]:
    """The surface whose second differences are ``-load`` and which is zero in a ring of pixels around (Dirichlet).

    Exact and in closed form: four products with sine matrices. Differentiable.
    """
    rows, row_values = _sines(load.shape[-2], load)
    columns, column_values = _sines(load.shape[-1], load)
    return rows @ ((rows @ load @ columns) / (row_values[:, None] + column_values)) @ columns


def seamless_clone(target: Float[Tensor, "*B h w"], patch: Float[Tensor, "*B h w"]) -> Float[Tensor, "*B h w"]:
    """Clone ``patch`` into ``target``: gradients of ``patch``, border values of ``target``.

    The Poisson equation with Dirichlet border, as in OpenCV's ``seamlessClone`` with ``NORMAL_CLONE`` and a mask that
    is the full rectangle (including that the outermost :data:`RIM` pixels have the gradients of ``target``), but
    batched, differentiable, not rounded to 8 bits and not clipped.

    Args:
        target: planes of the target image; h and w more than ``2 * RIM``.
        patch: planes to be cloned there.

    Raises:
        ValueError: if nothing is left between the rims.
    """
    height, width = target.shape[-2:]
    if min(height, width) <= 2 * RIM:
        raise ValueError(f"a rectangle must be more than {2 * RIM} pixels wide and high, got {height} x {width}")
    # The result is target + w, and the gradient of w is to be that of the difference inside the rim.
    change = torch.zeros_like(target)
    difference = patch - target
    middle = (..., slice(RIM, height - RIM), slice(RIM, width - RIM))
    load = torch.zeros_like(target)
    for axis in (-2, -1):
        step = change.clone()
        step[middle] = (difference.roll(-1, axis) - difference)[middle]
        load = load + step.roll(1, axis) - step
    inner = (..., slice(1, -1), slice(1, -1))
    change[inner] = solve_poisson(load[inner])
    return target + change
