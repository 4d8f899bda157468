"""Windows of frames and sound that sync experts compare.

Experts see 25 frames a second. Window f of a clip is its frames f to f + 4 and the 0.2 s of sound that begin with
frame f, at f / fps seconds. Of a clip of another rate, take the frames that :func:`at_25_fps` names and treat it as
one of 25.
"""

from fractions import Fraction
from math import ceil

import numpy as np
from jaxtyping import Float, Int

from emotalking.audio.mfcc import STEP, WINDOW
from emotalking.io.audio import SAMPLE_RATE

FPS = 25
"""Frames a second that experts see."""
FRAMES = 5
"""Consecutive frames of a window."""
STEPS = 20
"""Of 10 ms, under a window."""


def num_shown(frames: int, fps: Fraction | float | int) -> int:
    """Frames at 25 a second for which the first ``frames`` frames of a clip suffice."""
    return ceil(frames * FPS / _exact(fps) - Fraction(1, 2))


def at_25_fps(frames: int, fps: Fraction | float | int) -> Int[np.ndarray, " n"]:
    """Which of a clip's frames to show at 25 frames a second: the one on the screen at (k + 1/2) / 25 seconds."""
    rate = _exact(fps)
    return np.array([int((k + Fraction(1, 2)) * rate / FPS) for k in range(num_shown(frames, fps))], np.int64)


def _exact(fps: Fraction | float | int) -> Fraction:
    return Fraction(fps).limit_denominator(100_000)


def step_windows(frames: int, fps: Fraction | float | int) -> Int[np.ndarray, "frames 20"]:
    """Numbers of the 10 ms steps under each window."""
    begin = np.round(np.arange(frames) * (SAMPLE_RATE / STEP / float(fps))).astype(np.int64)
    return begin[:, None] + np.arange(STEPS)


def padded(samples: np.ndarray, frames: int, fps: Fraction | float | int) -> np.ndarray:
    """The sound with silence after it where the last window needs more."""
    steps = int(step_windows(frames, fps)[-1, -1]) + 1 if frames else 1
    return np.pad(samples, (0, max(0, (steps - 1) * STEP + WINDOW - len(samples))))


def seen_points(points: Float[np.ndarray, "N 68 2"]) -> Float[np.ndarray, "n 68 2"]:
    """The frames whose landmarks are all known.

    Raises:
        ValueError: there is none.
    """
    seen = points[np.isfinite(points).all((1, 2))]
    if len(seen) == 0:
        raise ValueError("points: not one frame has landmarks")
    return seen
