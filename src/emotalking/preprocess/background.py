"""The clean background plate of a clip with a still camera (docs/paper.md 2, step 5)."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from emotalking.data.labels import Label
from emotalking.data.writer import write_background
from emotalking.errors import InputError

MIN_DISTANCE_PX = 5.0
"""A pixel nearer than this to the foreground is not trusted (TalkingGaussian's value, at any image size)."""
FADE_PX = 24.0
"""Distance into the hidden area over which structures at its border dissolve into a smooth fill."""


class PlateBuilder:
    """Background plate, collected frame by frame in constant memory.

    Each pixel takes its colour from the frame where it is farthest from the foreground, which avoids the person's
    soft border and shadow; what no frame shows is filled.

    Deviation: distances by a distance transform, and every frame offered is used, where TalkingGaussian builds a
    kd-tree for every 20th frame. Reason: the same rule in milliseconds.

    Deviation: hidden pixels continue the nearest known one only near the border and then blend into a smooth
    interpolation. Reason: nearest-pixel fill alone leaves streaks that show when the head moves.
    """

    def __init__(self, height: int, width: int) -> None:
        self._colour = np.zeros((height, width, 3), np.uint8)
        self._distance = np.full((height, width), MIN_DISTANCE_PX, np.float32)

    def add(self, image: UInt8[np.ndarray, "H W 3"], foreground: Bool[np.ndarray, "H W"]) -> None:
        """Add one RGB frame; ``foreground`` is True on the person."""
        if foreground.any():
            distance = cv2.distanceTransform((~foreground).astype(np.uint8), cv2.DIST_L2, 5)
        else:
            distance = np.full(foreground.shape, float(sum(foreground.shape)), np.float32)
        better = distance > self._distance
        self._distance[better] = distance[better]
        self._colour[better] = image[better]

    @property
    def known(self) -> Bool[np.ndarray, "H W"]:
        """True where some frame showed the background."""
        return self._distance > MIN_DISTANCE_PX

    def finish(self) -> UInt8[np.ndarray, "H W 3"]:
        """The plate, RGB.

        Raises:
            InputError: if no frame shows any background.
        """
        if not self.known.any():
            raise InputError("No background is visible in the clip: the person fills every frame; use a wider shot.")
        return fill_hidden(self._colour, self.known)


def fill_hidden(image: UInt8[np.ndarray, "H W 3"], known: Bool[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """Fill the pixels that are not ``known``: nearest known pixel at the border, smooth pull-push fill inside.

    Args:
        image: RGB; arbitrary where not known.
        known: at least one pixel is True.
    """
    if known.all():
        return image.copy()
    carried, distance = nearest_colours(image, known)
    nearest = cv2.GaussianBlur(carried.astype(np.float32), (0, 0), 1.5)
    weight = np.exp(-distance / FADE_PX)[..., None]
    filled = weight * nearest + (1 - weight) * _pull_push(image.astype(np.float32), known.astype(np.float32))
    return np.where(known[..., None], image, np.clip(filled + 0.5, 0, 255).astype(np.uint8))


def nearest_colours(
    image: UInt8[np.ndarray, "H W 3"], source: Bool[np.ndarray, "H W"]
) -> tuple[UInt8[np.ndarray, "H W 3"], Float32[np.ndarray, "H W"]]:
    """For every pixel the colour of the nearest ``source`` pixel (at least one is True) and the distance to it, px."""
    distance, labels = cv2.distanceTransformWithLabels(
        (~source).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    nearest = np.asarray(labels, np.int32)
    colour_of = np.zeros((int(nearest.max()) + 1, 3), np.uint8)
    colour_of[nearest[source]] = image[source]
    return colour_of[nearest], np.asarray(distance, np.float32)


def _pull_push(colour: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Smooth interpolation over a pyramid: unknown pixels take the coarser level's colour (Gortler et al. 1996)."""
    weighted = colour * weight[..., None]
    if min(weight.shape) <= 2:
        return np.broadcast_to(weighted.sum((0, 1)) / max(float(weight.sum()), 1e-6), colour.shape)
    small_weight = cv2.pyrDown(weight)
    small = cv2.pyrDown(weighted) / np.maximum(small_weight, 1e-6)[..., None]
    coarse = _pull_push(small, np.minimum(4 * small_weight, 1))
    coarse = cv2.pyrUp(np.ascontiguousarray(coarse, np.float32), dstsize=(weight.shape[1], weight.shape[0]))
    return weighted + (1 - weight)[..., None] * coarse


def background_plate(
    frames: Iterable[tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"]]],
) -> UInt8[np.ndarray, "H W 3"]:
    """The plate from (RGB frame, labels) pairs, read once.

    Raises:
        InputError: if there is no frame, or none shows background.
    """
    builder: PlateBuilder | None = None
    for image, labels in frames:
        if builder is None:
            builder = PlateBuilder(image.shape[0], image.shape[1])
        builder.add(image, np.asarray(labels != Label.BACKGROUND))
    if builder is None:
        raise InputError("The clip has no frame to take the background from: check that it can be played.")
    return builder.finish()


def write_plate(
    root: Path, frames: Iterable[tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"]]]
) -> UInt8[np.ndarray, "H W 3"]:
    """:func:`background_plate` of the frames, written to ``bc.jpg`` of the subject folder ``root`` and returned."""
    plate = background_plate(frames)
    write_background(root, plate)
    return plate
