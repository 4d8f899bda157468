"""Perceptual loss: LPIPS of image patches (paper S12, S14-S16; docs/paper.md 7.2)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from emotalking.networks.lpips import Lpips

LEAST_SIDE = 32
"""Least side of an image in pixels that the backbones need."""


def lpips(network: Lpips, images: Float[Tensor, "B H W C"], targets: Float[Tensor, "B H W C"]) -> Float[Tensor, ""]:
    """Mean LPIPS distance of B images; those smaller than :data:`LEAST_SIDE` are padded with black."""
    return network(pad_to(images, LEAST_SIDE), pad_to(targets, LEAST_SIDE)).mean()


def crop(images: Float[Tensor, "B H W C"], corner: Int[Tensor, "2"], size: tuple[int, int]) -> Float[Tensor, "B h w C"]:
    """Crop of ``size`` (rows, columns) from ``corner`` (row, column), which may lie on the device: nothing waits."""
    for axis, (first, count) in enumerate(zip(corner.to(images.device).unbind(), size, strict=True), start=1):
        images = images.index_select(axis, first + torch.arange(count, device=images.device))
    return images


def cut_patches(images: Float[Tensor, "B H W C"], side: int, corner: Int[Tensor, "2"]) -> Float[Tensor, "P S S C"]:
    """Cut as many whole squares as fit the images, side by side; the rest at the edges is left out.

    Args:
        side: of a square, pixels; at most H and W.
        corner: row and column where the grid begins, at most H % S and W % S.

    Returns:
        P = B * (H // S) * (W // S) squares, image by image, row by row.

    Raises:
        ValueError: no square fits.
    """
    rows, columns = (size // side for size in images.shape[1:3])
    if rows < 1 or columns < 1:
        raise ValueError(f"side: no square of {side} pixels fits {tuple(images.shape[1:3])}")
    used = crop(images, corner, (rows * side, columns * side))
    squares = used.unflatten(1, (rows, side)).unflatten(3, (columns, side))
    return squares.transpose(2, 3).flatten(0, 2)


def pad_to(images: Float[Tensor, "B H W C"], side: int) -> Float[Tensor, "B h w C"]:
    """Pad images smaller than ``side`` pixels with black on the right and below."""
    height, width = images.shape[1:3]
    if min(height, width) >= side:
        return images
    return F.pad(images, (0, 0, 0, max(0, side - width), 0, max(0, side - height)))
