"""Colours of one clip in those of another: exposure, white balance and the side that the light comes from.

Fitted on the skin of one person, point by point of the face, so that what differs between two rooms is not taken for
an expression.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from emotalking.data.layouts import EYE_DISTANCE, FaceLayout
from emotalking.io.reading import reading

FRAMES = 24
"""Frames of a clip whose skin is read."""
_PATCH = 2
"""A point's colour is the mean over so many pixels to each side."""
_SPREADS = (0.6, 0.25, 0.25, 0.03)
"""Standard deviations of a channel's gain, of its change over an eye distance (x, y), and of its offset..."""
_SCATTER = 0.03
"""...against this one of a point's colour; folds and blushes are outliers (Huber, 1.5 times as much)."""


def skin_points(layout: FaceLayout) -> Int[np.ndarray, " S"]:
    """Points that always show skin: not eyes, brows, lips or the outline."""
    moving = (*layout.right_upper_lid, *layout.right_lower_lid, *layout.left_upper_lid, *layout.left_lower_lid)
    others = (*layout.right_brow, *layout.left_brow, *layout.right_iris, *layout.left_iris, *layout.oval)
    count = max(*layout.oval, *layout.ibug68, *others) + 1
    return np.setdiff1d(np.arange(count), [*moving, *others, *layout.lips_outer, *layout.lips_inner])


def skin_colours(
    images: Iterable[UInt8[np.ndarray, "H W 3"]], points: Float[np.ndarray, "N K 2"], layout: FaceLayout
) -> Float[np.ndarray, "S 3"]:
    """Median colour in [0, 1] of each of :func:`skin_points` over some frames."""
    chosen, seen = skin_points(layout), []
    for image, places in zip(images, points, strict=True):
        height, width = image.shape[:2]
        at = np.floor(places[chosen]).astype(int)
        around = np.arange(-_PATCH, _PATCH + 1)
        rows = np.clip(at[:, 1, None, None] + around[:, None], 0, height - 1)
        columns = np.clip(at[:, 0, None, None] + around, 0, width - 1)
        seen.append(image[rows, columns].mean((1, 2)) / 255.0)
    return np.median(seen, 0)


@dataclass(frozen=True)
class ColourMatch:
    """Gain and offset of each channel; the gain changes evenly over the face."""

    coefficients: Float[np.ndarray, "3 4"]
    """Gain in the face's middle, its change over an eye distance to the right and upwards, offset."""

    @classmethod
    def from_json(cls, facts: dict[str, Any], where: Path) -> "ColourMatch":
        """The match that the manifest ``where`` records.

        Raises:
            InputError: it is malformed.
        """
        with reading(where, "has colours that are malformed", "prepare the clip again"):
            coefficients = np.array(facts["coefficients"], np.float64)
            if coefficients.shape != (3, 4) or not np.isfinite(coefficients).all():
                raise ValueError("coefficients that are no match")
        return cls(coefficients)

    @classmethod
    def fit(
        cls,
        source: Float[np.ndarray, "S 3"],
        target: Float[np.ndarray, "S 3"],
        shape: Float[np.ndarray, "K 3"],
        layout: FaceLayout,
    ) -> "ColourMatch":
        """The match that brings ``source`` to ``target`` (:func:`skin_colours`), robustly."""
        place = _place(shape)[skin_points(layout)]
        rows = []
        for channel in range(3):
            value = source[:, channel]
            design = np.column_stack([value, value * place[:, 0], value * place[:, 1], np.ones(len(value))])
            start = np.array([1.0, 0.0, 0.0, 0.0])
            found, prior = start, np.diag(1 / np.square(_SPREADS))
            for _ in range(8):
                left = target[:, channel] - design @ found
                weight = np.minimum(1.0, 1.5 * _SCATTER / np.maximum(np.abs(left), 1e-9)) / _SCATTER**2
                normal = (design * weight[:, None]).T @ design + prior
                found = np.linalg.solve(normal, (design * weight[:, None]).T @ target[:, channel] + prior @ start)
            rows.append(found)
        return cls(np.array(rows))

    def apply(
        self, image: UInt8[np.ndarray, "H W 3"], points: Float[np.ndarray, "K 2"], shape: Float[np.ndarray, "K 3"]
    ) -> UInt8[np.ndarray, "H W 3"]:
        """An image in the other clip's colours.

        Args:
            image: RGB.
            points: landmarks in pixels.
            shape: neutral face in the head frame.
        """
        affine = np.linalg.lstsq(np.column_stack([points, np.ones(len(points))]), _place(shape), rcond=None)[0]
        y, x = np.indices(image.shape[:2], np.float32) + 0.5
        # Beyond the face the light is taken to stay as at its edge.
        where = np.clip(np.stack([x, y, np.ones_like(x)], -1) @ affine.astype(np.float32), -1.5, 1.5)
        gain, right, up, offset = self.coefficients.T.astype(np.float32)
        matched = image * (gain + where[..., :1] * right + where[..., 1:] * up) + 255 * offset
        return np.round(np.clip(matched, 0, 255)).astype(np.uint8)


def _place(shape: Float[np.ndarray, "K 3"]) -> Float[np.ndarray, "K 2"]:
    """Places on the face, in eye distances from its middle: right on the image, up."""
    return (shape[:, :2] - shape[:, :2].mean(0)) / EYE_DISTANCE
