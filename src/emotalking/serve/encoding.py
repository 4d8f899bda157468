"""Images of frames as JPEG, WebP or PNG, by OpenCV, which lets other threads run meanwhile."""

import cv2
import numpy as np
from jaxtyping import UInt8

FORMATS = ("jpeg", "webp", "png")
_PNG_LEVEL = 1
"""Compression of PNG: a third larger than the default, and several times as fast."""


def encode(image: UInt8[np.ndarray, "H W channels"], kind: str, quality: int) -> tuple[bytes, str]:
    """Encode an image.

    Args:
        image: RGB, or RGBA with straight alpha.
        kind: jpeg, webp or png; JPEG has no transparency, so that an RGBA image becomes WebP.
        quality: 1 to 100, of JPEG and WebP.

    Returns:
        The file's bytes and its format.
    """
    transparent = image.shape[-1] == 4
    kind = "webp" if kind == "jpeg" and transparent else kind
    if kind not in FORMATS:
        raise ValueError(f"kind: expected one of {FORMATS}, got {kind!r}")
    options = {
        "jpeg": [cv2.IMWRITE_JPEG_QUALITY, quality],
        "webp": [cv2.IMWRITE_WEBP_QUALITY, quality],
        "png": [cv2.IMWRITE_PNG_COMPRESSION, _PNG_LEVEL],
    }
    ordered = cv2.cvtColor(image, cv2.COLOR_RGBA2BGRA if transparent else cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(f".{kind}", ordered, options[kind])
    assert done
    return data.tobytes(), kind
