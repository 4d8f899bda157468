"""Temporal instability of the background, which is static under a static camera."""

import math
from collections import deque
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from scipy.ndimage import binary_erosion
from torch import Tensor

from emotalking.data import Subject
from emotalking.data.labels import Label

_MASKS = 24
"""Frames of the clip whose masks define the background."""
_MARGIN = 0.015
"""Distance from the person, of the image's width, within which background is ignored."""


class BackgroundObserver:
    """Temporal instability of the background, which is static under a static camera.

    Pixels labelled background in each of some frames of the clip, with a margin. Value of a frame: mean absolute
    second difference in time of their colours, grey levels of 255.
    """

    def __init__(self, subject: Subject, runs: Sequence[slice]) -> None:
        self._mask = torch.from_numpy(_background(subject))
        self._starts = {run.start for run in runs}
        self.rendered, self.recorded = _SecondDifference(), _SecondDifference()

    def add(self, number: int, image: Float[Tensor, "H W 3"], recorded: UInt8[Tensor, "H W 3"] | None) -> None:
        """Take the next frame: its position in the run, RGB in [0, 1], and the recorded frame in 0..255."""
        self._mask = self._mask.to(image.device)
        first = number in self._starts
        self.rendered.add(image[self._mask] * 255, first)
        if recorded is not None:
            self.recorded.add(recorded.to(image.device)[self._mask].float(), first)


class _SecondDifference:
    """Mean absolute second difference in time of a row of pixels; nan at the ends of a run."""

    def __init__(self) -> None:
        self._window: deque[Tensor] = deque(maxlen=3)
        self._values: list[float] = []

    def add(self, pixels: Float[Tensor, "n 3"], first: bool) -> None:
        """Add the next frame's pixels; ``first``: it starts a run."""
        if first:
            self._window.clear()
        self._window.append(pixels)
        self._values.append(math.nan)
        if len(self._window) == 3 and pixels.numel():
            before, here, after = self._window
            self._values[-2] = float((before - 2 * here + after).abs().mean())

    @property
    def series(self) -> Float[np.ndarray, " N"]:
        """One value a frame."""
        return np.array(self._values, np.float64)


def _background(subject: Subject) -> Bool[np.ndarray, "H W"]:
    """Pixels that are background in each of some frames of the clip."""
    never = np.ones((subject.height, subject.width), bool)
    for index in np.unique(np.linspace(0, subject.num_frames - 1, _MASKS).round().astype(int)):
        never &= subject.masks(int(index)).labels == Label.BACKGROUND
    margin = max(round(_MARGIN * subject.width), 1)
    return np.asarray(binary_erosion(never, iterations=margin, border_value=1))
