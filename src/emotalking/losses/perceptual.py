"""Pictures cut for a perceptual loss (paper S12, S14-S16; paper-spec 7.2)."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def cut_patches(
    pictures: Float[Tensor, "B H W C"], side: int, corner: tuple[int, int] = (0, 0)
) -> Float[Tensor, "P S S C"]:
    """All whole squares of a grid over the pictures; none overlap, and what is left over at the edges is not cut.

    Args:
        side: of a square, pixels; at most H and W.
        corner: row and column where the grid begins.

    Returns:
        P = B * rows * columns squares, picture by picture, row by row.

    Raises:
        ValueError: no square fits.
    """
    rows, columns = ((size - first) // side for size, first in zip(pictures.shape[1:3], corner, strict=True))
    if rows < 1 or columns < 1:
        raise ValueError(f"side: no square of {side} pixels fits {tuple(pictures.shape[1:3])} from {corner}")
    top, left = corner
    used = pictures[:, top : top + rows * side, left : left + columns * side]
    squares = used.unflatten(1, (rows, side)).unflatten(3, (columns, side))
    return squares.transpose(2, 3).flatten(0, 2)


def at_least(pictures: Float[Tensor, "B H W C"], side: int) -> Float[Tensor, "B h w C"]:
    """The pictures with black to the right and below, where they are smaller than ``side`` pixels."""
    height, width = pictures.shape[1:3]
    if min(height, width) >= side:
        return pictures
    return F.pad(pictures, (0, 0, 0, max(0, side - width), 0, max(0, side - height)))
