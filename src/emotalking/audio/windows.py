"""Windows of audio features that the audio encoder sees."""

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn.functional import pad

PAST_FRAMES = 4
FUTURE_FRAMES = 3
WINDOW_FRAMES = PAST_FRAMES + 1 + FUTURE_FRAMES
"""Video frames in a window: four past, the current and three future (docs/paper.md 4.2)."""


def audio_windows(
    features: Float[Tensor, "N S C"], frames: Integer[np.ndarray, " F"] | None = None
) -> Float[Tensor, "F 8 C S"]:
    """The windows [i-4, i+4) of the video frames i in ``frames``, zero outside the recording (docs/paper.md 4.2).

    Args:
        features: S steps of C channels a video frame.
        frames: frame numbers, 0 to N-1; None: all.

    Returns:
        A view where the frames are consecutive: eight copies of HuBERT's features would fill gigabytes.
    """
    windows = pad(features, (0, 0, 0, 0, PAST_FRAMES, FUTURE_FRAMES)).unfold(0, WINDOW_FRAMES, 1).permute(0, 3, 2, 1)
    if frames is None:
        return windows
    first = int(frames[0]) if len(frames) else 0
    if np.array_equal(frames, np.arange(first, first + len(frames))):
        return windows[first : first + len(frames)]
    return windows[torch.from_numpy(frames).to(features.device)]
