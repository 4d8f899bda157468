"""How much detail a picture really has, and how much the compression shows."""

import cv2
import numpy as np
from jaxtyping import Float, UInt8

_SMOOTH = 8.0
"""Steps between neighbouring pixels (grey levels) above this are edges of the scene, not of blocks."""


def detail(grey: UInt8[np.ndarray, "H W"]) -> float:
    """Energy of the finest octave over that of the next two: low where the picture was blurred or enlarged.

    Noise counts as detail; the measure is a ratio, so that light and contrast do not matter.
    """
    image = grey.astype(np.float32)
    levels = [image, *(cv2.GaussianBlur(image, (0, 0), sigma) for sigma in (1.0, 3.0))]
    fine, coarse = (float((a - b).var()) for a, b in zip(levels[:-1], levels[1:], strict=True))
    return fine / max(coarse, 1e-6)


def blockiness(grey: UInt8[np.ndarray, "H W"]) -> float:
    """Steps at the borders of 8x8 blocks over those elsewhere, in smooth areas: 1 for none, 1.3 can be seen.

    Only meaningful where pictures were not rescaled after they were coded; newer codecs smooth their borders.
    """
    image = grey.astype(np.float32)
    at_border, elsewhere = [], []
    for picture in (image, image.T):
        step: Float[np.ndarray, "H W1"] = np.abs(np.diff(picture, axis=1))
        smooth = step < _SMOOTH
        border = np.arange(step.shape[1]) % 8 == 7
        for columns, out in ((border, at_border), (~border, elsewhere)):
            out.append((step[:, columns] * smooth[:, columns]).sum() / max(smooth[:, columns].sum(), 1))
    return float(np.mean(at_border) / max(float(np.mean(elsewhere)), 1e-3))
