"""PNG files by OpenCV and Pillow: the back end where there is no compiled one."""

import numpy as np

from emotalking.io.images import encode_image, encode_palette


def encode_png(image: np.ndarray, palette: np.ndarray | None) -> bytes:
    """See :func:`emotalking.ops.png.encode_png`."""
    return encode_image(image, ".png", 1) if palette is None else encode_palette(image, palette)
