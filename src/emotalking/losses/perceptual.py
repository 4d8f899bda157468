"""Pictures cut for a perceptual loss (paper S12, S14-S16; docs/paper.md 7.2)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def cut_out(
    pictures: Float[Tensor, "B H W C"], corner: Int[Tensor, "2"], size: tuple[int, int]
) -> Float[Tensor, "B h w C"]:
    """The part of ``size`` (rows, columns) that begins at ``corner`` (row, column), which no host needs to know."""
    for axis, (first, count) in enumerate(zip(corner.to(pictures.device).unbind(), size, strict=True), start=1):
        pictures = pictures.index_select(axis, first + torch.arange(count, device=pictures.device))
    return pictures


def cut_patches(pictures: Float[Tensor, "B H W C"], side: int, corner: Int[Tensor, "2"]) -> Float[Tensor, "P S S C"]:
    """As many whole squares as fit the pictures, side by side; what is left over at the edges is not cut.

    Args:
        side: of a square, pixels; at most H and W.
        corner: row and column where the grid begins, at most H % S and W % S.

    Returns:
        P = B * (H // S) * (W // S) squares, picture by picture, row by row.

    Raises:
        ValueError: no square fits.
    """
    rows, columns = (size // side for size in pictures.shape[1:3])
    if rows < 1 or columns < 1:
        raise ValueError(f"side: no square of {side} pixels fits {tuple(pictures.shape[1:3])}")
    used = cut_out(pictures, corner, (rows * side, columns * side))
    squares = used.unflatten(1, (rows, side)).unflatten(3, (columns, side))
    return squares.transpose(2, 3).flatten(0, 2)


def at_least(pictures: Float[Tensor, "B H W C"], side: int) -> Float[Tensor, "B h w C"]:
    """The pictures with black to the right and below, where they are smaller than ``side`` pixels."""
    height, width = pictures.shape[1:3]
    if min(height, width) >= side:
        return pictures
    return F.pad(pictures, (0, 0, 0, max(0, side - width), 0, max(0, side - height)))
