"""Rectangles of images."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Shaped


@dataclass(frozen=True)
class Box:
    """Axis-aligned rectangle of an image in pixels: rows ``top`` to ``bottom``, columns ``left`` to ``right``.

    The ends are excluded, and edges lie between pixels: the full image is ``Box(0, 0, height, width)``. Integers
    where it crops an image, fractions where it was measured (a detector's box). It may extend beyond the image.
    Arrays and tensors of boxes ``[..., 4]`` have the same order; ``Box(*row)`` and ``[*box]`` convert.
    """

    top: int | float
    left: int | float
    bottom: int | float
    right: int | float

    @classmethod
    def whole(cls, width: int, height: int) -> "Box":
        """The box of a full image."""
        return cls(0, 0, height, width)

    @classmethod
    def around(cls, points: Shaped[np.ndarray, "K 2"]) -> "Box":
        """The bounding box of points (x, y)."""
        (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
        return cls(top, left, bottom, right)

    def __iter__(self) -> Iterator[int | float]:
        """Yield top, left, bottom, right."""
        yield from (self.top, self.left, self.bottom, self.right)

    @property
    def width(self) -> int | float:
        """Columns."""
        return self.right - self.left

    @property
    def height(self) -> int | float:
        """Rows."""
        return self.bottom - self.top

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a box with integer edges."""
        return int(self.width), int(self.height)

    @property
    def centre(self) -> tuple[float, float]:
        """The middle (x, y)."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    @property
    def index(self) -> tuple[slice, slice]:
        """Rows and columns as an index: ``image[box.index]``."""
        return slice(int(self.top), int(self.bottom)), slice(int(self.left), int(self.right))

    def clipped(self, width: int, height: int) -> "Box":
        """The part inside an image of this size; empty where there is none."""
        top, bottom = (min(max(edge, 0), height) for edge in (self.top, self.bottom))
        left, right = (min(max(edge, 0), width) for edge in (self.left, self.right))
        return Box(top, left, bottom, right)

    def grown(self, margin: float | int) -> "Box":
        """The box with ``margin`` more pixels on every side."""
        return Box(self.top - margin, self.left - margin, self.bottom + margin, self.right + margin)

    def shifted(self, x: float | int, y: float | int) -> "Box":
        """The box moved by ``x`` columns and ``y`` rows."""
        return Box(self.top + y, self.left + x, self.bottom + y, self.right + x)

    def scaled(self, factor: float | int) -> "Box":
        """The same box of an image enlarged by ``factor``."""
        return Box(self.top * factor, self.left * factor, self.bottom * factor, self.right * factor)


def bounds(mask: Bool[np.ndarray, "H W"], margin: int = 0) -> tuple[slice, slice]:
    """Rows and columns of what is True, and ``margin`` pixels around it as far as there are some."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    return slice(max(top - margin, 0), top + height + margin), slice(max(left - margin, 0), left + width + margin)
