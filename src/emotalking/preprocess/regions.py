"""Turned squares of an image: what a network is shown of it, and where its points lie."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor


@dataclass(frozen=True)
class Region:
    """A square of an image, in pixels (edges lie between pixels)."""

    x: float | int
    """Centre."""
    y: float | int
    side: float | int
    angle: float | int = 0.0
    """Clockwise turn of its upper edge, as seen in the image, radians."""

    @classmethod
    def whole(cls, image: UInt8[np.ndarray, "H W 3"]) -> "Region":
        """The smallest square around an image."""
        height, width = image.shape[:2]
        return cls(width / 2, height / 2, max(height, width))

    @property
    def matrix(self) -> Float[np.ndarray, "2 3"]:
        """From the region, whose corners are 0 and 1, to the image's pixels."""
        cos, sin = np.cos(self.angle) * self.side, np.sin(self.angle) * self.side
        return np.array([[cos, -sin, self.x - (cos - sin) / 2], [sin, cos, self.y - (sin + cos) / 2]])

    def crop(self, image: UInt8[np.ndarray, "H W 3"], pixels: int, border: int) -> Float32[Tensor, "1 P P 3"]:
        """The region at ``pixels`` a side, 0..1; ``border``: OpenCV's kind of border beyond the image.

        What is shown smaller than in the image is averaged first: sampled points alone hand on the camera's noise, and
        landmarks then jitter by a third more.
        """
        shrink, matrix = self.side / pixels, self.matrix
        scale = np.ones(2)
        if shrink > 1:
            # Only what is shown, and what is averaged and interpolated with it.
            corners, size = matrix @ [[0, 1, 0, 1], [0, 0, 1, 1], [1, 1, 1, 1]], np.array(image.shape[1::-1])
            low = np.clip(corners.min(1) - 2 * shrink, 0, size - 1).astype(int)
            high = np.clip(corners.max(1) + 2 * shrink + 1, low + 1, size).astype(int)
            image, matrix[:, 2] = image[low[1] : high[1], low[0] : high[0]], matrix[:, 2] - low
            small = np.maximum(np.rint((high - low) / shrink), 1).astype(int)
            scale = small / (high - low)
            image = np.asarray(cv2.resize(image, small.tolist(), interpolation=cv2.INTER_AREA), np.uint8)
        to_image = scale[:, None] * matrix / np.array([pixels, pixels, 1.0])
        to_image[:, 2] += to_image[:, :2].sum(1) / 2 - 0.5  # OpenCV counts from pixel centres
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        crop = cv2.warpAffine(image, to_image, (pixels, pixels), flags=flags, borderMode=border)
        return torch.from_numpy(crop)[None].float() / 255

    def to_image(self, points: Float[np.ndarray, "*B K 2"]) -> Float[np.ndarray, "*B K 2"]:
        """Points in the region (0..1) to the image's pixels."""
        return points @ self.matrix[:, :2].T + self.matrix[:, 2]


def level_angle(first: Float[np.ndarray, "2"], second: Float[np.ndarray, "2"]) -> float:
    """Angle of a region in which the line from ``first`` to ``second`` runs to the right."""
    x, y = second - first
    return float(np.arctan2(y, x))
