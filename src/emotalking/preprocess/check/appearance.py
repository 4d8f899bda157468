"""Visibility of the parts of a face in an image: light, noise, eyes and lips that something covers."""

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from emotalking.data.layouts import FaceLayout


def face_light(image: UInt8[np.ndarray, "H W 3"], points: Float[np.ndarray, "K 2"], layout: FaceLayout) -> float:
    """Grey level of the face's bright half (its 75th percentile), 0 to 255."""
    inside = _filled(image.shape[:2], points[list(layout.oval)])
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[inside]
    return float(np.percentile(grey, 75)) if len(grey) else 0.0


def noise_level(grey: UInt8[np.ndarray, "H W"]) -> float:
    """Standard deviation of the noise, grey levels: what a Laplacian of two directions leaves (Immerkaer 1996).

    Its median, so that edges do not count.
    """
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    return float(np.median(np.abs(cv2.filter2D(grey.astype(np.float32), -1, kernel)))) / 0.6745 / 6.0


def line_contrast(grey: UInt8[np.ndarray, "H W"]) -> float:
    """Difference of neighbouring rows over that of every second one: below 1; above where two fields were woven."""
    image = grey.astype(np.float32)
    next_row, second_row = (float(np.square(image[step:] - image[:-step]).mean()) for step in (1, 2))
    return next_row / max(second_row, 1e-3)


def eyes_brightness(image: UInt8[np.ndarray, "H W 3"], points: Float[np.ndarray, "K 2"], layout: FaceLayout) -> float:
    """Bright quarter between the lids over the cheek below, of the brighter eye."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    both = zip(layout.eye_centres(points), ("right", "left"), (48, 54), strict=True)
    ratios = [0.0]
    for centre, side, corner in both:
        eye = points[list(layout.eye_loop(side))]
        inside = _filled(grey.shape, eye)
        cheek = (centre + points[layout.ibug68[corner]]) / 2
        reach = np.ptp(eye[:, 0]) / 4
        below = _filled(grey.shape, cheek + reach * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]))
        if inside.any() and below.any():
            ratios.append(float(np.percentile(grey[inside], 75)) / max(float(np.median(grey[below])), 1.0))
    return max(ratios)


def lips_contrast(image: UInt8[np.ndarray, "H W 3"], points: Float[np.ndarray, "K 2"], layout: FaceLayout) -> float:
    """Distance of the lips' colour from that of the skin around them, CIE 1976 Lab."""
    outer, inner = points[list(layout.lips_outer)], points[list(layout.lips_inner)]
    centre = outer.mean(0)
    lips = _filled(image.shape[:2], outer) & ~_filled(image.shape[:2], inner)
    around = _filled(image.shape[:2], centre + 1.6 * (outer - centre))
    around &= ~_filled(image.shape[:2], centre + 1.15 * (outer - centre))
    if not lips.any() or not around.any():
        return 0.0
    colours = [cv2.cvtColor(image[part][None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for part in (lips, around)]
    return float(np.linalg.norm(np.median(colours[0][0], 0) - np.median(colours[1][0], 0)))


def colour_spread(image: UInt8[np.ndarray, "H W 3"]) -> float:
    """Difference of the channels in the most colourful hundredth of the pixels, grey levels; near 0 without colour."""
    red, green, blue = cv2.split(np.ascontiguousarray(image[::4, ::4]))
    most, least = cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue)
    return float(np.percentile(most - least, 99))


def _filled(size: tuple[int, ...], outline: np.ndarray) -> Bool[np.ndarray, "H W"]:
    """Pixels inside a closed outline (x, y)."""
    mask = np.zeros(size, np.uint8)
    cv2.fillPoly(mask, [np.round(outline).astype(np.int32)], (1,))
    return mask > 0
