"""Windows of frames and sound that sync experts compare.

Experts see 25 fps. Window f of a clip is its frames f to f + 4 and the 0.2 s of sound that begin with
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
"""Frame rate of the experts' input."""
FRAMES = 5
"""Consecutive frames of a window."""
STEPS = 20
"""Audio steps of 10 ms in a window."""


def num_frames_at_25_fps(frames: int, fps: Fraction | float | int) -> int:
    """Frames at 25 fps for which the first ``frames`` frames of a clip suffice."""
    return ceil(frames * FPS / _exact(fps) - Fraction(1, 2))


def at_25_fps(frames: int, fps: Fraction | float | int) -> Int[np.ndarray, " n"]:
    """Indices of a clip's frames at 25 fps: for frame k, the one on the screen at (k + 1/2) / 25 seconds."""
    rate = _exact(fps)
    count = num_frames_at_25_fps(frames, fps)
    return np.array([int((k + Fraction(1, 2)) * rate / FPS) for k in range(count)], np.int64)


def _exact(fps: Fraction | float | int) -> Fraction:
    return Fraction(fps).limit_denominator(100_000)


def step_windows(frames: int, fps: Fraction | float | int) -> Int[np.ndarray, "frames 20"]:
    """Indices of the 10 ms steps under each window."""
    begin = np.round(np.arange(frames) * (SAMPLE_RATE / STEP / float(fps))).astype(np.int64)
    return begin[:, None] + np.arange(STEPS)


def pad_audio(samples: np.ndarray, frames: int, fps: Fraction | float | int) -> np.ndarray:
    """Append silence where the last window needs more."""
    steps = int(step_windows(frames, fps)[-1, -1]) + 1 if frames else 1
    return np.pad(samples, (0, max(0, (steps - 1) * STEP + WINDOW - len(samples))))


def known_points(points: Float[np.ndarray, "N 68 2"]) -> Float[np.ndarray, "n 68 2"]:
    """Landmarks of the frames where all are known.

    Raises:
        ValueError: there is none.
    """
    known = points[np.isfinite(points).all((1, 2))]
    if len(known) == 0:
        raise ValueError("points: not one frame has landmarks")
    return known
