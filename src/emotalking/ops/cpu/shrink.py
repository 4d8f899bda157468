"""The compiled shrinking behind `emotalking.ops.shrink`."""

import numpy as np

from emotalking.ops.cpu.build import kernels
from emotalking.ops.reference import shrink as reference

library = kernels("shrink.cpp", shrink="pliiiip")


def shrink(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """See :func:`emotalking.ops.shrink.shrink`."""
    height, width, channels = image.shape
    if width % size[0] == 0 and height % size[1] == 0:  # for which OpenCV has vector instructions
        return reference.shrink(image, size)
    image = image if image.strides[1:] == (channels, 1) else np.ascontiguousarray(image)
    out = np.empty((size[1], size[0], channels), np.uint8)
    library().shrink(image.ctypes.data, image.strides[0], width, height, *size, out.ctypes.data)
    return out
