"""Images of pages: side by side, and error maps."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

ERROR_GAIN = 4.0
"""Amplification of the mean absolute difference in error maps."""
_GAP, _LABEL = 4, 76
_INSET = 0.1
"""Radius of an inset, of the image's shorter side."""
_PAPER, _INK = 255, (60, 66, 80)


def error_map(image: UInt8[np.ndarray, "H W 3"], truth: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """Mean absolute difference of the channels, :data:`ERROR_GAIN` times amplified, dark to bright."""
    error = np.abs(image.astype(np.float32) - truth.astype(np.float32)).mean(-1)
    levels = np.clip(error * ERROR_GAIN, 0, 255).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


def fit_width(image: UInt8[np.ndarray, "H W 3"], width: int) -> UInt8[np.ndarray, "h w 3"]:
    """Scale to ``width`` pixels."""
    height = max(round(image.shape[0] * width / image.shape[1]), 1)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def with_emotion(image: UInt8[np.ndarray, "H W 3"], valence: float, arousal: float) -> UInt8[np.ndarray, "H W 3"]:
    """A copy with the circle of emotions in its lower right corner: pleasant to the right, excited up, a dot there."""
    out = image.copy()
    radius = max(round(min(image.shape[:2]) * _INSET), 8)
    middle = (image.shape[1] - radius - radius // 3, image.shape[0] - radius - radius // 3)
    disc = cv2.circle(out.copy(), middle, radius, (255, 255, 255), -1, cv2.LINE_AA)
    out = cv2.addWeighted(disc, 0.75, out, 0.25, 0)
    cv2.circle(out, middle, round(0.8 * radius), (180, 186, 196), 1, cv2.LINE_AA)
    for x, y in ((radius, 0), (0, radius)):
        cv2.line(out, (middle[0] - x, middle[1] - y), (middle[0] + x, middle[1] + y), (180, 186, 196), 1, cv2.LINE_AA)
    dot = (round(middle[0] + radius * valence), round(middle[1] - radius * arousal))
    cv2.circle(out, dot, max(radius // 8, 2), (224, 80, 30), -1, cv2.LINE_AA)
    return out


def grid(
    rows: Sequence[Sequence[UInt8[np.ndarray, "_ _ 3"]]], width: int, labels: Sequence[str] = ()
) -> UInt8[np.ndarray, "h w 3"]:
    """Rows of images under each other, each image ``width`` pixels wide, with a label left of each row.

    Args:
        rows: RGB; sizes may differ, a row is as high as its highest image.
        labels: one a row, or none at all.
    """
    margin = _LABEL if labels else 0
    cells = [[fit_width(image, width) for image in row] for row in rows]
    heights = [max(cell.shape[0] for cell in row) for row in cells]
    most = max(len(row) for row in cells)
    shape = (sum(heights) + _GAP * (len(rows) - 1), margin + most * width + _GAP * (most - 1), 3)
    sheet = np.full(shape, _PAPER, np.uint8)
    tops = np.cumsum([0] + [height + _GAP for height in heights])
    for top, row in zip(tops, cells, strict=False):
        for column, cell in enumerate(row):
            left = margin + column * (width + _GAP)
            sheet[top : top + cell.shape[0], left : left + width] = cell
    if not labels:
        return sheet
    canvas = Image.fromarray(sheet)
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(13)
    for top, height, label in zip(tops, heights, labels, strict=False):
        draw.text((0, int(top) + height / 2), label, _INK, font, anchor="lm")
    return np.asarray(canvas).copy()
