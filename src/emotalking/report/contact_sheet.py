"""Contact sheets: many images with captions on one page."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont, ImageOps

_MARGIN = 6
_PAPER = (255, 255, 255)
_INK = (40, 40, 40)
_AXES = (190, 190, 190)
_CHECKS = (204, 238)
_SPACING = 0.36
"""Units of the valence/arousal plane that an image takes: the least distance of two places along an axis."""


def contact_sheet(
    images: Sequence[UInt8[np.ndarray, "_ _ _"]],
    captions: Sequence[str] = (),
    *,
    columns: int = 4,
    cell: int = 256,
    title: str = "",
) -> UInt8[np.ndarray, "H W 3"]:
    """Images in rows, each scaled to fit a square of ``cell`` pixels, its caption below.

    Args:
        images: RGB, or straight RGBA (over a checkerboard); their sizes may differ.
        captions: one line each, or none at all.
        columns: images in a row.
        cell: pixels.
        title: a line above everything.
    """
    if not images:
        raise ValueError("images: expected at least one, got none")
    if captions and len(captions) != len(images):
        raise ValueError(f"captions: expected {len(images)} or none, got {len(captions)}")
    columns = min(columns, len(images))
    letters = max(11, cell // 16)
    font = ImageFont.load_default(letters)
    line = round(letters * 1.6)
    head = round(line * 1.3) if title else 0
    pitch = (cell + _MARGIN, cell + (line if captions else 0) + _MARGIN)
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * pitch[0] + _MARGIN, head + rows * pitch[1] + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN + head / 2), title, _INK, ImageFont.load_default(max(13, cell // 13)), anchor="lm")
    for index, image in enumerate(images):
        x = _MARGIN + index % columns * pitch[0]
        y = _MARGIN + head + index // columns * pitch[1]
        fitted = ImageOps.contain(opaque(image), (cell, cell), Image.Resampling.LANCZOS)
        sheet.paste(fitted, (x + (cell - fitted.width) // 2, y + (cell - fitted.height) // 2))
        if captions:
            draw.text(
                (x + cell / 2, y + cell + line / 2), _fitted(captions[index], font, cell), _INK, font, anchor="mm"
            )
    return np.asarray(sheet).copy()


def circumplex_sheet(
    images: Sequence[UInt8[np.ndarray, "_ _ _"]],
    places: Sequence[tuple[float, float]],
    captions: Sequence[str],
    *,
    cell: int = 256,
    title: str = "",
) -> UInt8[np.ndarray, "H W 3"]:
    """Images at their points on the valence/arousal plane: pleasant to the right, excited to the top.

    Args:
        images: RGB, each scaled to fit a square of ``cell`` pixels.
        places: valence and arousal of each.
        captions: one line each.
        cell: pixels.
        title: a line above everything.
    """
    if not len(images) == len(places) == len(captions) > 0:
        raise ValueError(f"expected as many images as places and captions, got {len(images)}, {len(places)}")
    letters = max(11, cell // 16)
    font, line = ImageFont.load_default(letters), round(letters * 1.6)
    head = round(letters * 2.4) if title else 0
    pitch = (cell + _MARGIN) / _SPACING, (cell + line + _MARGIN) / _SPACING
    reach = [max(abs(place[axis]) for place in places) for axis in (0, 1)]
    half = [round(reach[k] * pitch[k] + (cell + (line if k else 0)) / 2) + _MARGIN for k in (0, 1)]
    sheet = Image.new("RGB", (2 * half[0], 2 * half[1] + head), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN + head / 2), title, _INK, ImageFont.load_default(round(letters * 1.3)), anchor="lm")
    middle = (half[0], half[1] + head)
    draw.line((0, middle[1], 2 * half[0], middle[1]), _AXES, 2)
    draw.line((middle[0], head, middle[0], 2 * half[1] + head), _AXES, 2)
    for image, (valence, arousal), caption in zip(images, places, captions, strict=True):
        x = round(middle[0] + valence * pitch[0] - cell / 2)
        y = round(middle[1] - arousal * pitch[1] - (cell + line) / 2)
        fitted = ImageOps.contain(opaque(image), (cell, cell), Image.Resampling.LANCZOS)
        draw.rectangle((x - 2, y - 2, x + cell + 1, y + cell + line), _PAPER)
        sheet.paste(fitted, (x + (cell - fitted.width) // 2, y + (cell - fitted.height) // 2))
        draw.text((x + cell / 2, y + cell + line / 2), _fitted(caption, font, cell), _INK, font, anchor="mm")
    return np.asarray(sheet).copy()


def opaque(image: UInt8[np.ndarray, "H W channels"]) -> Image.Image:
    """RGB image; transparent parts of straight RGBA become a checkerboard."""
    if image.shape[2] == 3:
        return Image.fromarray(image)
    rows, columns = np.indices(image.shape[:2]) // max(4, image.shape[0] // 32)
    paper = np.where((rows + columns) % 2, *_CHECKS).astype(np.uint8)
    ground = Image.fromarray(np.repeat(paper[..., None], 3, axis=2))
    ground.paste(Image.fromarray(image[..., :3]), mask=Image.fromarray(image[..., 3]))
    return ground


def _fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """``text``, shortened with dots until it fits."""
    short = text
    while short and font.getlength(short) > width:
        short = short[:-2] + "…" if short.endswith("…") else short[:-1] + "…"
    return short
