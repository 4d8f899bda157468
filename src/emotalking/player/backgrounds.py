"""Background of the head: the recorded plate, a colour, an image, or transparency."""

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import ImageColor

from emotalking.errors import InputError
from emotalking.io.images import read_image

Background = str | Path | tuple[int, int, int] | UInt8[np.ndarray, "h w 3"] | None
"""None (the recorded plate), "transparent", a colour name or #rrggbb, an RGB triple, an image or its path."""


def background_plate(
    background: Background, recorded: UInt8[np.ndarray, "H W 3"]
) -> UInt8[np.ndarray, "H W 3"] | Literal["transparent"]:
    """Load the background behind the torso in the avatar's size.

    Args:
        background: an image of another shape is scaled to cover the frame and cropped at its centre.
        recorded: the avatar's own plate.

    Raises:
        InputError: neither a colour nor an image file.
    """
    height, width = recorded.shape[:2]
    if background is None:
        return recorded
    if isinstance(background, np.ndarray):
        return _cover(background, width, height)
    if isinstance(background, tuple):
        return _filled(background, recorded)
    if str(background) == "transparent":
        return "transparent"
    path = Path(background)
    if path.is_file():
        return _cover(read_image(path, hint="give a PNG or JPEG file as background"), width, height)
    try:
        return _filled(ImageColor.getrgb(str(background))[:3], recorded)
    except ValueError:
        raise InputError(
            f"the background '{background}' is neither an image file nor a colour: give a path, a colour such as "
            "'white' or '#00ff00', or 'transparent'."
        ) from None


def _filled(colour: tuple[int, ...], recorded: np.ndarray) -> np.ndarray:
    if len(colour) != 3 or not all(0 <= value <= 255 for value in colour):
        raise InputError(f"the background colour {colour} is not three numbers from 0 to 255.")
    return np.broadcast_to(np.array(colour, np.uint8), recorded.shape).copy()


def _cover(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Scale ``image`` until it covers the frame, and crop its centre."""
    rows, columns = image.shape[:2]
    scale = max(width / columns, height / rows)
    size = max(width, round(columns * scale)), max(height, round(rows * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    scaled = cv2.resize(image, size, interpolation=interpolation)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return np.ascontiguousarray(scaled[top : top + height, left : left + width])
