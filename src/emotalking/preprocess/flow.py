"""Optical flow at the rigid points: how far the skin moved from each frame to the next, measured on the pixels.

Landmark detectors err by a fraction of a pixel, anew in every frame; the image itself tells the motion between two
frames about five times as exactly. The pose solver uses both.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8


@dataclass(frozen=True)
class PointFlow:
    """Displacement of image points from each frame to the next."""

    displacement: Float[np.ndarray, "M R 2"]
    """Pixels from frame n to n + 1 at the rigid points; M = N - 1."""
    valid: Bool[np.ndarray, "M R"]
    """False where tracking failed or does not come back to where it began."""


class FlowTracker:
    """Feed frames in order; ``result`` holds the flow between them (Lucas-Kanade in a pyramid, checked backwards)."""

    def __init__(self, back_tolerance: float = 0.2) -> None:
        self._tolerance = back_tolerance
        self._grey: np.ndarray | None = None
        self._points: np.ndarray | None = None
        self._moves: list[np.ndarray] = []
        self._valid: list[np.ndarray] = []

    def advance(self, image: UInt8[np.ndarray, "H W 3"], points: Float[np.ndarray, "R 2"], face_px: float) -> None:
        """Add a frame.

        Args:
            image: RGB.
            points: pixels (x, y), NaN if the frame shows no face.
            face_px: height of the face; windows of a twelfth of it are compared.
        """
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        if self._grey is not None and self._points is not None:
            move, valid = self._pair(self._grey, grey, self._points, face_px)
            self._moves.append(move)
            self._valid.append(valid)
        self._grey, self._points = grey, points.astype(np.float32)

    def _pair(
        self, first: np.ndarray, second: np.ndarray, points: np.ndarray, face_px: float
    ) -> tuple[np.ndarray, np.ndarray]:
        usable = np.isfinite(points).all(-1)
        move, valid = np.zeros_like(points), np.zeros(len(points), bool)
        if not usable.any():
            return move, valid
        begin = points[usable] - 0.5  # OpenCV counts from pixel centres
        side = max(9, int(face_px / 12) | 1) if np.isfinite(face_px) else 21
        criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 0.003)

        def follow(a: np.ndarray, b: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            moved, status, _ = cv2.calcOpticalFlowPyrLK(
                a, b, at, at.copy(), winSize=(side, side), maxLevel=3, criteria=criteria, minEigThreshold=1e-4
            )
            return moved, status[:, 0] > 0

        end, found = follow(first, second, begin)
        back, found_back = follow(second, first, end)
        move[usable] = end - begin
        valid[usable] = found & found_back & (np.linalg.norm(back - begin, axis=1) < self._tolerance)
        return move, valid

    def result(self, count: int) -> PointFlow:
        """The flow of all frames added so far; ``count`` is the number of points."""
        if not self._moves:
            return PointFlow(np.zeros((0, count, 2)), np.zeros((0, count), bool))
        return PointFlow(np.stack(self._moves).astype(np.float64), np.stack(self._valid))
