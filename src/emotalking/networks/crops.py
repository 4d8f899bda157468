"""Square cuts around a face: each network wants the crop that it was trained with, defined by our landmarks."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import cv2
import numpy as np
from jaxtyping import Float, Shaped, UInt8

Item = TypeVar("Item")


@dataclass(frozen=True)
class Square:
    """A square of a picture, in pixels; it may reach beyond the picture."""

    left: float
    top: float
    side: float

    @classmethod
    def around(cls, points: Shaped[np.ndarray, "K 2"], side: float) -> "Square":
        """The square of this side whose centre is the centre of the points' bounding box."""
        centre = (points.min(0) + points.max(0)) / 2
        return cls(float(centre[0] - side / 2), float(centre[1] - side / 2), float(side))

    def within(self, width: int, height: int) -> "Square":
        """The square moved into a picture of this size, and made smaller where it is too large."""
        side = float(min(self.side, width, height))
        middle = (self.side - side) / 2
        left, top = self.left + middle, self.top + middle
        return Square(min(max(left, 0.0), width - side), min(max(top, 0.0), height - side), side)

    def to_cut(self, size: int) -> Float[np.ndarray, "2 3"]:
        """Affine map from the picture's pixel indices to those of the cut at ``size`` x ``size`` pixels."""
        # Indices count pixel centres, which lie half a pixel inside.
        scale = size / self.side
        return np.array(
            [[scale, 0, (0.5 - self.left) * scale - 0.5], [0, scale, (0.5 - self.top) * scale - 0.5]], np.float64
        )

    def cut(self, image: UInt8[np.ndarray, "H W 3"], size: int) -> UInt8[np.ndarray, "size size 3"]:
        """This part of the picture at ``size`` x ``size`` pixels, bilinear; black beyond the picture."""
        return np.asarray(cv2.warpAffine(image, self.to_cut(size), (size, size), flags=cv2.INTER_LINEAR))

    def paste(
        self, cut: Float[np.ndarray, "S S 3"], height: int, width: int
    ) -> tuple[Float[np.ndarray, "H W 3"], np.ndarray]:
        """The cut back in the picture, and the mask [H, W] of the pixels that it covers."""
        size, to_cut = (width, height), self.to_cut(len(cut))
        back = cv2.warpAffine(
            cut, to_cut, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
        )
        xs, ys = np.arange(width) + 0.5, np.arange(height) + 0.5
        inside_x = (xs >= self.left) & (xs <= self.left + self.side)
        inside_y = (ys >= self.top) & (ys <= self.top + self.side)
        return np.asarray(back, cut.dtype), inside_y[:, None] & inside_x


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of up to ``size`` items in order; only one list is held at a time."""
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part
