"""A visible label in the corner of frames: the letters "AI", as the EU's code of practice on marking suggests."""

from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, ImageDraw, ImageFont

TEXT = "AI"
HEIGHT = 0.075
"""Of the label, as a share of the frame's shorter side; likewise its distance from the edges, halved."""
_LEAST_PX = 14
_PLATE = (20, 22, 28, 190)
_LETTERS = (255, 255, 255, 255)
_OVERSAMPLED = 4


def label(frame: UInt8[np.ndarray, "H W C"]) -> UInt8[np.ndarray, "H W C"]:
    """A copy with the label at the lower left; transparent frames (straight alpha) are opaque under it."""
    height, width, channels = frame.shape
    colour, alpha = _drawn(min(height, width))
    gap = len(alpha) // 2
    out = frame.copy()
    place = out[height - gap - len(alpha) : height - gap, gap : gap + alpha.shape[1]]
    under = place[..., 3:].astype(np.float32) / 255.0 if channels == 4 else np.float32(1.0)
    total = alpha + under * (1.0 - alpha)
    mixed = (colour * alpha + place[..., :3] * (under * (1.0 - alpha))) / np.maximum(total, 1e-6)
    place[..., :3] = np.where(alpha > 0, np.rint(mixed), place[..., :3]).astype(np.uint8)
    if channels == 4:
        place[..., 3:] = np.rint(total * 255.0).astype(np.uint8)
    return out


@lru_cache(4)
def _drawn(side: int) -> tuple[Float32[np.ndarray, "h w 3"], Float32[np.ndarray, "h w 1"]]:
    """Colours 0..255 and coverage in [0, 1] of the label for frames of this shorter side."""
    import matplotlib  # for a font, and here, because loading it takes a tenth of the time to the first frame

    height = max(round(HEIGHT * side), _LEAST_PX)
    width = round(1.35 * height)
    large = (width * _OVERSAMPLED, height * _OVERSAMPLED)
    image = Image.new("RGBA", large, (*_PLATE[:3], 0))
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle((0, 0, large[0] - 1, large[1] - 1), radius=large[1] // 4, fill=_PLATE)
    font = ImageFont.truetype(
        str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"), round(0.72 * large[1])
    )
    draw.text((large[0] / 2, large[1] / 2), TEXT, _LETTERS, font, anchor="mm")
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BOX), np.float32)
    return pixels[..., :3], pixels[..., 3:] / 255.0
