"""What the frames of a video show of the mark: their sum, and how they change with its change of sign."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from emotalking.provenance.pattern import PERIOD_S

WORKING_SIDE = 512
"""Larger images are made smaller until their shorter side has so many pixels."""
LONGEST = 2048
"""Side in pixels of the longest image at the working size."""
_HIGH_PASS_PX, _SPREAD_PX, _FLOOR = 2.0, 2.0, 0.3
_SWING_HIGH_PASS_PX, _SWING_SPREAD_PX, _SWING_FLOOR = 6.0, 4.0, 4.0
"""The same for the change with the sign; the floor, in squared levels of one part of the period, lies above the mark,
which would else be taken for what moves."""
_CLASSES = 8
"""Pixels are sorted by how much changes there; of each class the changes' covariance over time is known."""
_EDGE_PX = 16.0
_AVERAGED = 5
"""Frames in a row that are averaged before they are flattened: their coding noise differs, their content hardly."""
_BINS = 16
"""Parts of the period whose frames are averaged."""
_FEWEST_BINS = 10
"""Of a video too short for a whole period: with fewer, what moves in the images looks like the mark's change."""


@dataclass(frozen=True)
class Evidence:
    """Images at the working size in which the mark is searched."""

    steady: Float32[np.ndarray, "1 H W"]
    """The images' flattened sum."""
    swinging: Float32[np.ndarray, "4 H W"] | None = None
    """What their change shows of the cosine and the sine of the period, and of its third harmonic (a third as strong:
    a square wave's); None: too short, or an image alone."""

    def __add__(self, other: "Evidence") -> "Evidence":
        """Of both; the times of both begin with the same file."""
        if self.swinging is None or other.swinging is None:
            return Evidence(self.steady + other.steady, other.swinging if self.swinging is None else self.swinging)
        return Evidence(self.steady + other.steady, self.swinging + other.swinging)


def of_image(grey: Float32[np.ndarray, "H W"]) -> Evidence:
    """What an image alone shows."""
    return Evidence(flattened(grey)[None])


def flattened(grey: Float32[np.ndarray, "H W"]) -> Float32[np.ndarray, "H W"]:
    """The image without its local mean, weighted by its inverse local variance, faded at the edges.

    Args:
        grey: levels of 0..255, of a frame or averaged over frames.
    """
    residual = grey - cv2.GaussianBlur(grey, (0, 0), _HIGH_PASS_PX)
    variance = cv2.GaussianBlur(residual * residual, (0, 0), _SPREAD_PX)
    return residual / (variance + _FLOOR) * _fade(*grey.shape)


def working_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) in which images of a size are searched."""
    scale = min(1.0, WORKING_SIDE / min(height, width))
    # Much longer than wide: of what is longer than the spectrum nothing would be seen.
    scale = min(scale, LONGEST / max(height, width))
    return max(round(height * scale), 1), max(round(width * scale), 1)


def grey_levels(image: UInt8[np.ndarray, "H W 3"]) -> Float32[np.ndarray, "h w"]:
    """Grey levels at the working size."""
    grey = cv2.cvtColor(image.astype(np.float32), cv2.COLOR_RGB2GRAY)
    height, width = working_size(*grey.shape)
    return grey if grey.shape == (height, width) else cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)


class Piece:
    """Consecutive frames, summed while they come."""

    def __init__(self) -> None:
        self.frames = 0
        self.begin = self.end = 0.0
        self._sum: np.ndarray | None = None
        self._mean: np.ndarray | None = None
        self._averaged = 0
        self._bins: list[np.ndarray | None] = [None] * _BINS
        self._counts = np.zeros(_BINS)

    def add(self, time: float, grey: Float32[np.ndarray, "H W"]) -> None:
        """Add a frame shown at ``time`` [s]."""
        self.begin = self.begin if self.frames else time
        self.end = time
        self.frames += 1
        self._mean = grey if self._mean is None else self._mean + grey
        self._averaged += 1
        if self._averaged == _AVERAGED:
            self._flatten()
        place = int(time / PERIOD_S * _BINS + 1e-6) % _BINS
        known = self._bins[place]
        self._bins[place] = grey if known is None else known + grey
        self._counts[place] += 1

    def evidence(self) -> Evidence:
        """What the frames show."""
        if self._averaged:
            self._flatten()
        assert self._sum is not None
        return Evidence(self._sum[None], self._swinging())

    def _flatten(self) -> None:
        assert self._mean is not None
        flat = flattened(self._mean / np.float32(self._averaged))
        self._sum = flat if self._sum is None else self._sum + flat
        self._mean, self._averaged = None, 0

    def _swinging(self) -> np.ndarray | None:
        """The averages of the parts of the period, filtered in time as they are noisy.

        Where nothing moves, they are compared with the harmonics as they are; where the head moves, its slow changes
        are suppressed, and what is left are the sudden ones of the sign (a matched filter in coloured noise).
        """
        filled = np.flatnonzero(self._counts)
        if len(filled) < _FEWEST_BINS:
            return None
        means = np.stack(
            [
                total / np.float32(count)
                for total, count in zip(self._bins, self._counts, strict=True)
                if total is not None
            ]
        )
        means -= means.mean(0)
        for one in means:
            one -= cv2.GaussianBlur(one, (0, 0), _SWING_HIGH_PASS_PX)
        variance = cv2.GaussianBlur(np.square(means).mean(0), (0, 0), _SWING_SPREAD_PX)
        borders = np.quantile(variance, np.linspace(0, 1, _CLASSES + 1)[1:-1])
        classes = np.digitize(variance, borders)
        waves, floor = _harmonics(2 * np.pi * (filled + 0.5) / _BINS), _SWING_FLOOR * np.eye(len(filled))
        out = np.empty((len(waves), *variance.shape), np.float32)
        for number in range(_CLASSES):
            inside = classes == number
            values = means[:, inside]
            covariance = values @ values.T / np.float32(max(values.shape[1], 1))
            matched = np.linalg.solve(covariance + floor, waves.T).T.astype(np.float32)
            power = np.trace(covariance) / len(filled) + _SWING_FLOOR
            out[:, inside] = matched @ values * (power / (variance[inside] + _SWING_FLOOR))
        return out * _fade(*variance.shape)


def _harmonics(angles: Float64[np.ndarray, " B"]) -> Float64[np.ndarray, "4 B"]:
    """Cosine and sine of the period and of a third of it, without their means over parts of a period."""
    waves = np.stack([np.cos(angles), np.sin(angles), np.cos(3 * angles) / 3, np.sin(3 * angles) / 3])
    return waves - waves.mean(1, keepdims=True)


def _fade(height: int, width: int) -> np.ndarray:
    """Weights that fall to zero at the edges."""
    down, across = (
        (np.minimum(np.arange(n) + 0.5, n - np.arange(n) - 0.5).clip(0, _EDGE_PX) / _EDGE_PX).astype(np.float32)
        for n in (height, width)
    )
    return down[:, None] * across
