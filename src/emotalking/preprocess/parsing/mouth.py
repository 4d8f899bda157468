"""The inside of the mouth and its teeth, from the lips' landmarks and colours."""

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from emotalking.preprocess.parsing.geometry import FaceZones

TEETH_REDNESS, TEETH_SATURATION, TEETH_LIGHTNESS = 0.6, 0.75, 0.6
"""Teeth are below these shares of the lips' redness (Lab a) or of the skin's saturation, and above this share of the
skin's lightness."""
THINNEST_MOUTH = 0.045
"""Lips parted by less than this share of the mouth's width are closed."""


def teeth_mask(image: UInt8[np.ndarray, "H W 3"], zones: FaceZones) -> Bool[np.ndarray, "H W"]:
    """Pixels nearly as bright as skin and much paler than lips and skin, inside the inner lips or just outside.

    Landmarks draw the inner lips a pixel or two too tight, so teeth may reach that far beyond them.

    Deviation: TalkingGaussian takes a class of a portrait segmentation network. Reason: as for the parsing.
    """
    teeth, mouth = np.zeros(zones.mouth.shape, bool), open_mouth(zones)
    if not mouth.any():
        return teeth
    reach = 2 * max(1, round(image.shape[0] / 256)) + 1
    rows, cols = np.flatnonzero(zones.lips.any(1)), np.flatnonzero(zones.lips.any(0))
    window = np.s_[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    lab = cv2.cvtColor(np.ascontiguousarray(image[window]), cv2.COLOR_RGB2LAB).astype(np.float32)
    lips = lab[(zones.lips & ~zones.mouth)[window]]
    # Every fourth pixel of every fourth row is plenty for a median.
    face = image[::4, ::4][(zones.below_brows & ~zones.lips)[::4, ::4]]
    if len(lips) == 0 or len(face) == 0:
        return teeth
    skin_lightness = np.median(cv2.cvtColor(face[None], cv2.COLOR_RGB2LAB)[..., 0])
    skin_saturation = np.median(_saturation(face))
    neutral = 128.0
    lip_redness = max(float(np.median(lips[:, 1])) - neutral, 4.0)
    whole = mouth[window].astype(np.uint8)
    near = cv2.dilate(whole, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))).astype(bool)
    # Either sign will do: video halves the resolution of chroma, so thin teeth inherit some of the lips' red.
    pale = lab[..., 1] - neutral < TEETH_REDNESS * lip_redness
    pale |= _saturation(image[window]) < TEETH_SATURATION * skin_saturation
    bright = lab[..., 0] > TEETH_LIGHTNESS * skin_lightness
    teeth[window] = _opened(pale & bright & near & zones.lips[window], 2)
    return teeth


def open_mouth(zones: FaceZones) -> np.ndarray:
    """The inner lips without slivers: closed lips leave a thread of polygon that is lip, not mouth."""
    cols = np.flatnonzero(zones.lips.any(0))
    if len(cols) == 0:
        return zones.mouth
    size = max(2, round(THINNEST_MOUTH * (cols[-1] - cols[0])))
    parted = _opened(zones.mouth, size).astype(np.uint8)
    # What the square cut off at the corners of an open mouth comes back.
    return zones.mouth & cv2.dilate(parted, np.ones((2 * size + 1, 2 * size + 1), np.uint8)).astype(bool)


def _opened(mask: np.ndarray, size: int) -> np.ndarray:
    """Opening by a square; OpenCV's own shifts the mask when the side is even, for it does not mirror the square."""
    square, centre = np.ones((size, size), np.uint8), size // 2
    eroded = cv2.erode(mask.astype(np.uint8), square, anchor=(centre, centre))
    mirrored = size - 1 - centre
    return cv2.dilate(eroded, square, anchor=(mirrored, mirrored)).astype(bool)


def _saturation(image: np.ndarray) -> np.ndarray:
    """HSV saturation in [0, 1]."""
    value = image.max(-1).astype(np.float32)
    return 1 - image.min(-1) / np.maximum(value, 1)
