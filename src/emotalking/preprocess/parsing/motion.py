"""Class scores made steady over time: each frame's are averaged with those before, carried along by the motion."""

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

MEMORY = 0.8
"""Weight of the past where the motion is certain: an average over about nine frames."""
COLOUR_TOLERANCE = 12.0
"""Difference of colour (levels, after the motion) at which the weight of the past falls to a third."""


class Steadier:
    """Feed the scores of a clip frame by frame, in order.

    The past is moved to where it went (dense optical flow, DIS: Kroeger et al. 2016) and counts only where it looks as
    the present does, so that nothing lags and what was hidden a moment ago starts anew.
    """

    def __init__(self) -> None:
        self._flow = SmallFlow()
        self._past: np.ndarray | None = None

    def __call__(
        self, image: UInt8[np.ndarray, "H W 3"], scores: Float32[np.ndarray, "h w C"]
    ) -> Float32[np.ndarray, "h w C"]:
        """The steadied scores of the next frame; they sum to 1 if what is given does."""
        small = cv2.resize(image, scores.shape[1::-1], interpolation=cv2.INTER_AREA)
        arrows, likeness = self._flow(small)
        if self._past is not None:
            past = carry(self._past, arrows, cv2.INTER_LINEAR)
            scores = scores + (MEMORY * likeness)[..., None] * (past - scores)
        self._past = scores
        return scores


class SmallFlow:
    """Motion from each frame back to the one before it, and how far both look alike."""

    def __init__(self) -> None:
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._image: np.ndarray | None = None
        self._grey: np.ndarray | None = None

    def __call__(
        self, image: UInt8[np.ndarray, "h w 3"]
    ) -> tuple[Float32[np.ndarray, "h w 2"], Float32[np.ndarray, "h w"]]:
        """Arrows (pixels, from this frame to the last) and likeness in [0, 1]; zeros at the first frame."""
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        arrows, likeness = np.zeros((*grey.shape, 2), np.float32), np.zeros(grey.shape, np.float32)
        if self._image is not None and self._grey is not None:
            arrows = np.asarray(self._dis.calc(grey, self._grey, arrows), np.float32)
            moved = carry(self._image, arrows, cv2.INTER_LINEAR)
            red, green, blue = cv2.split(cv2.blur(cv2.absdiff(image, moved), (3, 3)))
            difference = cv2.max(cv2.max(red, green), blue).astype(np.float32)
            likeness = np.exp(-np.square(difference / np.float32(COLOUR_TOLERANCE)))
        self._image, self._grey = image, grey
        return arrows, likeness


def carry(array: np.ndarray, arrows: Float32[np.ndarray, "h w 2"], interpolation: int) -> np.ndarray:
    """The last frame's ``array`` where this frame has it; ``arrows`` point from this frame to the last."""
    rows, cols = np.indices(arrows.shape[:2], np.float32)
    x, y = cols + arrows[..., 0], rows + arrows[..., 1]
    moved = cv2.remap(array, x, y, interpolation, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved).reshape(array.shape)  # OpenCV drops a single channel


def flicker(
    before: UInt8[np.ndarray, "h w"],
    after: UInt8[np.ndarray, "h w"],
    arrows: Float32[np.ndarray, "h w 2"],
    likeness: Float32[np.ndarray, "h w"],
) -> Bool[np.ndarray, "h w"]:
    """Pixels whose label changes from one frame to the next although they show the same thing.

    A border that moves by less than a pixel rounds anew in every frame; a label that was no more than a pixel away is
    therefore no change.

    Args:
        before: labels of the earlier frame.
        after: of the later one.
        arrows: motion from the later to the earlier frame, px.
        likeness: of the colours after that motion, 0..1; only pixels above 0.5 are counted.
    """
    rows, cols = np.indices(after.shape)
    x = np.rint(cols + arrows[..., 0]).astype(np.intp)
    y = np.rint(rows + arrows[..., 1]).astype(np.intp)
    inside = (x >= 0) & (y >= 0) & (x < after.shape[1]) & (y < after.shape[0])
    moved = before[y.clip(0, after.shape[0] - 1), x.clip(0, after.shape[1] - 1)]
    near = np.zeros(after.shape, bool)
    for label in np.unique(after):
        around = cv2.dilate((moved == label).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
        near |= around & (after == label)
    return inside & (likeness > 0.5) & ~near
