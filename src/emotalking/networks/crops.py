"""Square crops around a face: each network takes the crop that it was trained with, defined by our landmarks."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

import cv2
import numpy as np
from jaxtyping import Float, Shaped, UInt8

from emotalking.ops.box import Box

Item = TypeVar("Item")


def square_at(x: float, y: float, side: float) -> Box:
    """The square of this side around a point."""
    return Box(y - side / 2, x - side / 2, y + side / 2, x + side / 2)


def square_around(points: Shaped[np.ndarray, "K 2"], side: float) -> Box:
    """The square of this side whose centre is the centre of the points' bounding box."""
    x, y = Box.around(points).centre
    return square_at(x, y, side)


def inside(square: Box, width: int, height: int) -> Box:
    """A square moved into an image of this size, and made smaller where it is too large."""
    side = float(min(square.width, width, height))
    x, y = square.centre
    left, top = (min(max(middle - side / 2, 0.0), size - side) for middle, size in ((x, width), (y, height)))
    return Box(top, left, top + side, left + side)


def crop_matrix(square: Box, size: int) -> Float[np.ndarray, "2 3"]:
    """Affine map from the image's pixel indices to those of the crop at ``size`` x ``size`` pixels."""
    # Indices count pixel centres, which lie half a pixel inside.
    scale = size / square.width
    return np.array(
        [[scale, 0, (0.5 - square.left) * scale - 0.5], [0, scale, (0.5 - square.top) * scale - 0.5]], np.float64
    )


def crop(image: UInt8[np.ndarray, "H W 3"], square: Box, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """Resample a square of an image to ``size`` x ``size`` pixels, bilinear; black beyond the image."""
    return np.asarray(cv2.warpAffine(image, crop_matrix(square, size), (size, size), flags=cv2.INTER_LINEAR))


def uncrop(
    part: Float[np.ndarray, "S S 3"], square: Box, height: int, width: int
) -> tuple[Float[np.ndarray, "H W 3"], np.ndarray]:
    """A crop back in its image, and the mask [H, W] of the pixels that it covers."""
    size, matrix = (width, height), crop_matrix(square, len(part))
    back = cv2.warpAffine(
        part, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
    xs, ys = np.arange(width) + 0.5, np.arange(height) + 0.5
    inside_x = (xs >= square.left) & (xs <= square.right)
    inside_y = (ys >= square.top) & (ys <= square.bottom)
    return np.asarray(back, part.dtype), inside_y[:, None] & inside_x


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of up to ``size`` items in order; only one list is in memory at a time."""
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part
