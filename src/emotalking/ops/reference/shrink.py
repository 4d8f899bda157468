"""Shrinking by OpenCV: the back end where there is no compiled one."""

import cv2
import numpy as np


def shrink(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """See :func:`emotalking.ops.shrink.shrink`."""
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
