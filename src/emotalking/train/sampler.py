"""Draws of training frames without replacement, and the windows of the curricula (docs/paper.md 8)."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool

from emotalking.train.data import random_index


class FrameSampler:
    """Draws frames without replacement; a constrained draw comes from the frames that qualify.

    Upstream redraws until a frame qualifies and can spin forever; here a constraint without frames is ignored.
    """

    def __init__(self, count: int, generator: torch.Generator, useful: Bool[np.ndarray, "F"] | None = None) -> None:
        """``count`` frames; of these only ``useful`` ones are drawn without constraint, if there are any."""
        if count < 1:
            raise ValueError("count must be at least 1 frame")
        self._frames = np.arange(count)
        if useful is not None and useful.any():
            self._frames = np.flatnonzero(useful)
        self._generator = generator
        self._queue: list[int] = []

    def draw(self, qualifying: Bool[np.ndarray, "F"] | None = None) -> int:
        """The next frame; one of ``qualifying`` if it is given and not empty."""
        if qualifying is not None and qualifying.any():
            candidates = np.flatnonzero(qualifying)
            return int(candidates[random_index(len(candidates), self._generator)])
        if not self._queue:
            order = torch.randperm(len(self._frames), generator=self._generator).numpy()
            self._queue = self._frames[order].tolist()
        return self._queue.pop()

    def state_dict(self) -> dict[str, list[int]]:
        """State that a resumed run needs (the generator is saved once, by the trainer)."""
        return {"queue": list(self._queue)}

    def load_state_dict(self, state: dict[str, Sequence[int]]) -> None:
        """Inverse of :meth:`state_dict`.

        Raises:
            ValueError: a frame that is none of those that are drawn.
        """
        self._queue = [int(frame) for frame in state["queue"]]
        if not set(self._queue) <= set(self._frames.tolist()):
            raise ValueError("a frame in the queue that the training does not have")


def opening_window(opening: np.ndarray, progress: float) -> Bool[np.ndarray, "F"]:
    """Face warm-up: mouth openings within +-20 % of the range around a centre that slides upward with ``progress``.

    Args:
        opening: inner-lip opening of each frame in pixels, [F]; NaN where no face was found.
        progress: iteration / 40,000 of the paper's schedule, in [0, 1].
    """
    low, high = float(np.nanmin(opening)), float(np.nanmax(opening))
    span = high - low
    centre = low + 0.2 * span + progress * span
    return np.abs(opening - centre) <= 0.2 * span


def blink_window(blink: np.ndarray, progress: float) -> Bool[np.ndarray, "F"]:
    """Face motion: blink strength in [t - 0.15, t + 0.3] with t = ``progress``."""
    return (blink >= progress - 0.15) & (blink <= progress + 0.3)


def lips_part_window(au25: np.ndarray, progress: float | None) -> Bool[np.ndarray, "F"]:
    """Mouth: the most open frames in warm-up (``progress`` None), then a window that widens downward to AU25's p25.

    Args:
        au25: clipped at its 95th percentile, so that the most open frames are 5 % of all.
    """
    top = float(au25.max())
    if progress is None:
        return au25 >= top
    return au25 >= top - progress * (top - float(np.percentile(au25, 25.0)))
