"""Coverage of a region whose border pixels mix with what is behind it."""

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from emotalking.ops.box import bounds

BORDER = 3 / 512
"""Distance from a region's outline to which pixels may be mixed, as a share of the image's height."""
BLUR = 0.9 / 512
"""Standard deviation of the outline where colours do not tell, as a share of the image's height."""
CONTRAST = 0.15
"""Distance of two colours in [0, 1] at which they tell as much of a pixel's coverage as the outline does."""


def nearest_colours(
    image: UInt8[np.ndarray, "H W 3"], source: Bool[np.ndarray, "H W"]
) -> tuple[UInt8[np.ndarray, "H W 3"], Float32[np.ndarray, "H W"]]:
    """For every pixel the colour of the nearest ``source`` pixel (at least one is True) and the distance to it, px."""
    distance, labels = cv2.distanceTransformWithLabels(
        (~source).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    # Four bytes as one number: numpy looks up single numbers three times as fast as rows.
    packed = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA).view(np.uint32)[..., 0]
    colour_of = np.concatenate([np.zeros(1, np.uint32), packed[source]])  # OpenCV counts the pixels row by row, from 1
    carried = colour_of.take(np.asarray(labels, np.int32))[..., None].view(np.uint8)
    return np.asarray(cv2.cvtColor(carried, cv2.COLOR_RGBA2RGB), np.uint8), np.asarray(distance, np.float32)


def border_reach(height: int) -> int:
    """:data:`BORDER` in pixels of a frame of ``height``, at least two."""
    return max(2, round(BORDER * height))


def coverage(
    image: UInt8[np.ndarray, "H W 3"],
    region: Bool[np.ndarray, "H W"],
    behind: UInt8[np.ndarray, "H W 3"],
    frame_height: int | None = None,
) -> UInt8[np.ndarray, "H W"]:
    """How much of each pixel a region covers, from its outline and the colours on both sides.

    Near the outline ``image = a F + (1 - a) B`` is solved for a by least squares, where F is the nearest colour inside
    and B what is behind. The closer both are, the more a blurred outline counts instead.

    Args:
        image: RGB.
        region: True on the foreground; wrong by at most :data:`BORDER`.
        behind: RGB of what the foreground hides, trusted near the outline.
        frame_height: pixels of the full frame where these are a part of it; None: they are the frame.

    Returns:
        255 where the region covers all.
    """
    height = frame_height or len(region)
    mask = region.astype(np.uint8)
    reach = border_reach(height)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    inside, near = cv2.erode(mask, disc), cv2.dilate(mask, disc)
    if not inside.any() or inside.all():
        return mask * np.uint8(255)
    window = bounds(near.view(bool))
    out, border = inside[window] * np.uint8(255), near[window] != inside[window]
    carried, _ = nearest_colours(image[window], inside[window].astype(bool))
    places = np.flatnonzero(border)  # rows of a table are taken in a third of the time of a mask's pixels
    front, back, mixed = (
        np.ascontiguousarray(part).reshape(-1, 3).take(places, 0).astype(np.float32) / 255
        for part in (cv2.blur(carried, (3, 3)), behind[window], image[window])
    )
    contrast = np.square(front - back).sum(-1)
    solved = ((mixed - back) * (front - back)).sum(-1) / np.maximum(contrast, 1e-6)
    blurred = cv2.GaussianBlur(mask[window].astype(np.float32), (0, 0), max(BLUR * height, 0.6))[border]
    trust = contrast / (contrast + CONTRAST**2)
    out[border] = np.round(255 * (trust * np.clip(solved, 0, 1) + (1 - trust) * blurred))
    whole = np.zeros_like(mask)
    whole[window] = out
    return whole
