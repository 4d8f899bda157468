"""Measure the emotion in an image of the actor, on the actor's own scale: analysis by synthesis."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32

from emotalking.testing.actor.actor import Actor, project
from emotalking.testing.actor.state import ActorState
from emotalking.testing.actor.style import ROBIN, ActorStyle

_COARSE = (-0.6, 0.0, 0.6)
_STEP = 0.08
"""Distance between the renders of a numerical derivative."""
_DESCENT_RENDERS = 24
"""Renders of one descent at the most."""
_STARTS = 3
"""Descents, from the best points of the grid: an image beyond the actor's own range (a very strong anger, say) can
have a second local minimum in which a single descent ends."""


class EmotionFit(NamedTuple):
    """Result of :class:`ActorEmotionModel`."""

    valence: float
    arousal: float
    residual: float
    """Root mean square difference that remains in the compared region, colours in [0, 1]."""
    renders: int


class ActorEmotionModel:
    """Find the emotion whose rendering fits an image best.

    The pose, the viseme and the commanded action units are known; only valence and arousal are searched: a coarse grid,
    then damped Gauss-Newton steps on the image's differences within brows, eyes, cheeks and mouth corners. Gain and
    offset of every colour channel are fitted along, so exposure and tint do not matter.

    Args:
        style: the actor in the images.
        size: the model's own working resolution in pixels; images of any size are resampled to it.
    """

    def __init__(self, style: ActorStyle = ROBIN, size: int = 128) -> None:
        self.actor = Actor(style, size)
        layout = self.actor.layout
        self._lips = np.array(layout.lips_outer)
        self._oval = np.array(layout.oval)
        self._eyes = [np.array(layout.right_upper_lid + layout.right_lower_lid + layout.right_brow)]
        self._eyes.append(np.array(layout.left_upper_lid + layout.left_lower_lid + layout.left_brow))
        self._neutral = self.actor.neutral_landmarks()

    def fit(self, image: Float[np.ndarray, "H W 3"], state: ActorState) -> EmotionFit:
        """Estimate valence and arousal, each clamped to [-1, 1].

        Args:
            image: the image, RGB in [0, 1], square, from the actor's camera.
            state: known parts of it: pose, viseme, commanded action units, gaze (its emotion is ignored); for
                images whose lips keep the viseme's opening set ``emotional_jaw=False``, for those whose emotion is in
                the shape alone (made by warping) ``emotional_tint=False``.

        Raises:
            ValueError: if the image is not square.
        """
        if image.shape[0] != image.shape[1]:
            raise ValueError(f"image: expected a square image, got {image.shape[1]}x{image.shape[0]}")
        size = self.actor.size
        resampled = cv2.resize(np.asarray(image, np.float32), (size, size), interpolation=cv2.INTER_AREA)
        weight = self._region(state)
        compared = weight > 0.02
        self._renders = 0
        root = np.sqrt(weight[compared])[:, None]
        target = self._soften(resampled)[compared]

        def render(emotion: Float[np.ndarray, "2"]) -> Float32[np.ndarray, "n 3"]:
            self._renders += 1
            state_tried = replace(state, valence=float(emotion[0]), arousal=float(emotion[1]))
            return self._soften(self.actor.image_of(state_tried))[compared]

        grid = [np.array([v, a]) for v in _COARSE for a in _COARSE]
        images = [render(point) for point in grid]
        errors = [self._fit(image, target, root)[1] for image in images]
        starts = np.argsort(errors)[:_STARTS]
        ends = [self._descend(render, grid[i], images[i], errors[i], target, root) for i in starts]
        point, error = min(ends, key=lambda end: end[1])
        return EmotionFit(float(point[0]), float(point[1]), float(error), self._renders)

    def _descend(
        self,
        render: Callable[[Float[np.ndarray, "2"]], np.ndarray],
        point: Float[np.ndarray, "2"],
        image: np.ndarray,
        error: float,
        target: np.ndarray,
        root: np.ndarray,
    ) -> tuple[Float[np.ndarray, "2"], float]:
        """Damped Gauss-Newton from ``point``; where it ends and the error there."""
        most = self._renders + _DESCENT_RENDERS
        damping = 1e-3
        slopes = None
        while self._renders < most - 2:
            if slopes is None:
                slopes = self._slopes(render, point, image)
            candidate_point = np.clip(point + self._step(slopes, image, target, root, damping), -1, 1)
            if np.abs(candidate_point - point).max() < 4e-3:
                break
            candidate_image = render(candidate_point)
            new_error = self._fit(candidate_image, target, root)[1]
            if new_error < error:
                point = candidate_point
                image = candidate_image
                error = new_error
                damping *= 0.2
                slopes = None
            else:
                damping = damping * 20 + 0.05
        return point, error

    @staticmethod
    def _slopes(
        render: Callable[[Float[np.ndarray, "2"]], np.ndarray], point: Float[np.ndarray, "2"], image: np.ndarray
    ) -> list[np.ndarray]:
        """Derivatives of the image with respect to valence and arousal."""
        result = []
        for axis in range(2):
            other = point.copy()
            other[axis] += _STEP if point[axis] < 0.9 else -_STEP
            result.append((render(other) - image) / (other[axis] - point[axis]))
        return result

    def _step(
        self, slopes: list[np.ndarray], image: np.ndarray, target: np.ndarray, root: np.ndarray, damping: float
    ) -> Float[np.ndarray, "2"]:
        """One damped Gauss-Newton step; gain and offset of the colours are free."""
        normal, right = np.zeros((2, 2)), np.zeros(2)
        gain, _ = self._fit(image, target, root)
        for channel in range(3):
            free, _ = np.linalg.qr(np.column_stack([image[:, channel], np.ones(len(image))]) * root)
            ways = np.column_stack([slope[:, channel] for slope in slopes]) * root * gain[channel]
            rest = target[:, channel] * root[:, 0]
            ways = ways - free @ (free.T @ ways)
            rest = rest - free @ (free.T @ rest)
            normal += ways.T @ ways
            right += ways.T @ rest
        normal = normal + damping * np.diag(np.diag(normal)) + 1e-9 * np.eye(2)
        return np.clip(np.linalg.solve(normal, right), -0.5, 0.5)

    @staticmethod
    def _fit(
        image: Float[np.ndarray, "n c"], target: Float[np.ndarray, "n c"], root: Float[np.ndarray, "n 1"]
    ) -> tuple[Float[np.ndarray, "c"], float]:
        """Best gain a channel (with a free offset) and the weighted error that it leaves."""
        weight = root**2
        total = weight.sum()
        x = image - (weight * image).sum(0) / total
        y = target - (weight * target).sum(0) / total
        gain = np.clip((weight * x * y).sum(0) / np.maximum((weight * x * x).sum(0), 1e-9), 0.5, 2.0)
        error = (weight * (y - gain * x) ** 2).sum() / (total * image.shape[1])
        return gain, float(np.sqrt(error))

    def _soften(self, image: Float[np.ndarray, "H W 3"]) -> Float32[np.ndarray, "H W 3"]:
        return cv2.GaussianBlur(image, (0, 0), 0.010 * self.actor.size).astype(np.float32)

    def _region(self, state: ActorState) -> Float32[np.ndarray, "H W"]:
        """Weights: the face from the brow to the mouth's corners without the lips' middle, eyes and brows heavier."""
        size = self.actor.size
        points = project(self._neutral, state.viewmat, self.actor.K)[:, :2]
        face = _filled(points[self._oval], size)
        inner = points[self._lips].mean(0) + (points[self._lips] - points[self._lips].mean(0)) * np.array([0.72, 2.0])
        weight = face.astype(np.float32)
        for eye in self._eyes:
            weight += 2.0 * _filled(points[eye], size)
        weight[_filled(inner, size)] = 0
        right, left = points[self._lips[0]], points[self._lips[len(self._lips) // 2]]
        across = (left - right) / np.linalg.norm(left - right)
        columns, rows = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
        below = (rows - right[1]) * across[0] - (columns - right[0]) * across[1]
        weight[below > 0.03 * size] = 0  # the chin moves with speech and the jaw
        weight = cv2.GaussianBlur(weight, (0, 0), 0.008 * size)
        return (weight * face).astype(np.float32)


def _filled(points: Float[np.ndarray, "n 2"], size: int) -> Bool[np.ndarray, "H W"]:
    """Convex hull of points as a mask."""
    mask = np.zeros((size, size), np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.round(points).astype(np.int32)), 1)
    return mask.astype(bool)
