"""A decoded frame as a player shows it: upright, square pixels, one size, opaque, in BT.709's colours."""

import threading
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av.error
import cv2
import numpy as np
from av import VideoFrame
from av.video.reformatter import VideoReformatter
from jaxtyping import Float32, Shaped, UInt8

from emotalking.errors import InputError
from emotalking.io.tone_mapping import WideColour, to_bt709, wide_colour

_OWN = threading.local()
"""The pixel format converter of each thread."""
_SQUARE = 0.005
"""Pixels that are wider or narrower than a square by less are taken for square: encoders round."""
_LUMA_PLANE = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "nv12", "gray")
"""Pixel formats whose first plane is the image in grey, 8 bits."""


@dataclass(frozen=True)
class Framing:
    """A square cut out of every frame, and the size that it is shrunk to."""

    left: int
    top: int
    side: int
    size: int

    def apply(self, image: Shaped[np.ndarray, "H W 3"]) -> Shaped[np.ndarray, "S S 3"]:
        """The square of one frame, 8 or 16 bits."""
        cut = image[self.top : self.top + self.side, self.left : self.left + self.side]
        if self.side == self.size:
            return np.ascontiguousarray(cut)
        return np.asarray(cv2.resize(cut, (self.size, self.size), interpolation=cv2.INTER_AREA), image.dtype)


@dataclass(frozen=True)
class Orientation:
    """Quarter turns and reflection that make a stored image upright: rows and columns swapped first, then flipped."""

    swapped: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @classmethod
    def of_matrix(cls, matrix: bytes) -> "Orientation":
        """The nearest one to a display matrix (ISO 14496-12, 6.2.2: x' = a x + c y, y' = b x + d y)."""
        a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(True, c < 0, b < 0)
        return cls(False, a < 0, d < 0)

    def turned(self, quarters: int) -> "Orientation":
        """This one, and then so many quarter turns clockwise."""
        out = self
        for _ in range(quarters % 4):
            out = Orientation(not out.swapped, not out.flip_y, out.flip_x)
        return out

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the upright image of a stored one, and back."""
        return (height, width) if self.swapped else (width, height)

    def apply(self, image: Shaped[np.ndarray, "h w *C"]) -> Shaped[np.ndarray, "H W *C"]:
        """The upright image, contiguous."""
        image = image.swapaxes(0, 1) if self.swapped else image
        return np.ascontiguousarray(image[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1])


UPRIGHT = Orientation()


@dataclass(frozen=True)
class ShownFrame:
    """A decoded frame and how it is shown."""

    raw: VideoFrame
    pts: int | None
    """Time stamp of the packet."""
    orientation: Orientation
    aspect: Fraction
    """Width over height of a stored pixel."""
    size: tuple[int, int]
    """Width and height to show it in, pixels; an image of another shape gets black borders."""

    @property
    def own_size(self) -> tuple[int, int]:
        """Width and height in square pixels, upright."""
        return shown_size(self.raw, self.orientation, self.aspect)

    @property
    def colour(self) -> WideColour | None:
        """Colours other than those of BT.709 (None)."""
        return wide_colour(int(self.raw.color_trc), int(self.raw.color_primaries))


def orientation_of(frame: VideoFrame) -> Orientation:
    """The orientation that the file notes for a frame."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return UPRIGHT if matrix is None else Orientation.of_matrix(bytes(matrix))


def shown_size(frame: VideoFrame, orientation: Orientation, aspect: Fraction) -> tuple[int, int]:
    """Width and height of a frame in square pixels, upright; the side that is too short is enlarged."""
    width, height = frame.width, frame.height
    if abs(aspect - 1) >= _SQUARE:
        width, height = (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))
    return orientation.size(width, height)


def pixels(
    frame: VideoFrame, kind: str, size: tuple[int, int] | tuple[None, None] = (None, None)
) -> Shaped[np.ndarray, "H W *C"]:
    """A PyAV frame in the pixel format ``kind`` (`rgb24`, `gray`, `rgb48le`), as it is stored.

    ``frame.to_ndarray`` gives the same, but makes a converter with a thread for each CPU core at every frame, which
    takes 4 to 13 ms where the conversion takes 0.1 to 0.6 (450 to 590 pixels, two cores).

    Args:
        frame: the frame.
        kind: FFmpeg's name.
        size: width and height to scale to; None: as stored.

    Raises:
        InputError: FFmpeg cannot convert these colours.
    """
    if not hasattr(_OWN, "converter"):
        _OWN.converter = VideoReformatter()
    width, height = size
    try:
        return _OWN.converter.reformat(frame, width=width, height=height, format=kind, threads=1).to_ndarray()
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise InputError(
            f"the colours of the video ({frame.format.name}, matrix {int(frame.colorspace)} of ITU-T H.273) cannot be "
            "converted: export it with BT.709 colours."
        ) from error


def to_rgb(frame: ShownFrame, framing: Framing | None = None) -> UInt8[np.ndarray, "H W 3"]:
    """A frame of :func:`~emotalking.io.video.decode_frames` as RGB as it is shown, framed."""
    colour = frame.colour
    image = _fitted(frame, frame.orientation.apply(_stored_rgb(frame.raw, colour)))
    image = image if framing is None else framing.apply(image)
    return image if colour is None else to_bt709(image, colour)


def to_grey(frame: ShownFrame, width: int) -> Float32[np.ndarray, "h width"]:
    """Grey levels 0..255 of a small version of a frame as it is shown, but not turned upright."""
    raw = frame.raw
    plain = frame.orientation.size(raw.width, raw.height) == frame.own_size == frame.size
    if plain and frame.colour is None and not _has_alpha(raw):
        plane: Any = raw.planes[0]
        if raw.format.name in _LUMA_PLANE:
            grey = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        else:
            grey = pixels(raw, "gray")
        size = (width, max(round(grey.shape[0] * width / grey.shape[1]), 1))
        return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32)
    whole, own = (frame.orientation.size(*size) for size in (frame.size, frame.own_size))
    scale = width / whole[0]
    image = _stored_rgb(raw, frame.colour, (max(round(raw.width * scale), 1), max(round(raw.height * scale), 1)))
    image = image if frame.colour is None else to_bt709(image, frame.colour)
    image = _letterboxed(image, own, (width, max(round(whole[1] * scale), 1)))
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)


def _stored_rgb(
    frame: VideoFrame, colour: WideColour | None, size: tuple[int, int] | tuple[None, None] = (None, None)
) -> Shaped[np.ndarray, "H W 3"]:
    """RGB as stored, over black where it is transparent; 16 bits of wide colours."""
    if colour is not None:
        return pixels(frame, "rgb48le", size)
    if not _has_alpha(frame):
        return pixels(frame, "rgb24", size)
    image = pixels(frame, "rgba", size)
    alpha = image[..., 3:].astype(np.uint16)
    return ((image[..., :3] * alpha + 127) // 255).astype(np.uint8)


def _has_alpha(frame: VideoFrame) -> bool:
    return frame.format.name == "pal8" or any(component.is_alpha for component in frame.format.components)


def _fitted(frame: ShownFrame, image: Shaped[np.ndarray, "h w 3"]) -> Shaped[np.ndarray, "H W 3"]:
    """An upright image in square pixels and the common size."""
    if image.shape[1::-1] == frame.size == frame.own_size:
        return image
    return _letterboxed(image, frame.own_size, frame.size)


def _letterboxed(
    image: Shaped[np.ndarray, "h w 3"], own: tuple[int, int], size: tuple[int, int]
) -> Shaped[np.ndarray, "H W 3"]:
    """An image of the proportions of ``own`` (width, height), as large as fits, in the middle of ``size``."""
    scale = min(size[0] / own[0], size[1] / own[1])
    width, height = (max(min(round(side * scale), most), 1) for side, most in zip(own, size, strict=True))
    shrinks = width * height < image.shape[0] * image.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    scaled = cv2.resize(image, (width, height), interpolation=how) if image.shape[1::-1] != (width, height) else image
    out = np.zeros((size[1], size[0], 3), image.dtype)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    out[top : top + height, left : left + width] = scaled
    return out
