"""Audio features and voice activity of sound while it comes in."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from emotalking.audio.tracks import StepFeatures
from emotalking.audio.windows import FUTURE_FRAMES, PAST_FRAMES
from emotalking.data.audio_features import AUDIO_FEATURES, AudioFeature, audio_feature
from emotalking.errors import InputError
from emotalking.io.audio import SAMPLE_RATE

LIVE_BATCH = 32
"""Windows of a recording that are computed together."""


@dataclass(eq=False)
class PendingWindow:
    """The audio encoder's window of a frame; its features are computed when it is needed, many windows at once."""

    value: Float[Tensor, "8 C steps"] | None
    """None: not computed yet."""
    compute: "Callable[[Sequence[PendingWindow]], Sequence[Float[Tensor, '8 C steps']]] | None" = None
    """Values of windows that have this function in common."""
    inputs: object = None
    """What ``compute`` needs; dropped afterwards."""


def resolved(windows: Sequence[PendingWindow]) -> list[Float[Tensor, "8 C steps"]]:
    """The windows' values; those that were not known are computed together."""
    groups: dict[Callable[[Sequence[PendingWindow]], Sequence[Tensor]], list[PendingWindow]] = {}
    for window in dict.fromkeys(windows):
        if window.value is None and window.compute is not None:
            groups.setdefault(window.compute, []).append(window)
    for compute, group in groups.items():
        for window, value in zip(group, compute(group), strict=True):
            window.value, window.inputs = value, None
    return [window.value for window in windows if window.value is not None]


@runtime_checkable
class FeatureStream(Protocol):
    """Features of one utterance while it comes in.

    What a frame gets depends on the sound pushed until then alone, not on its pieces.
    """

    def push(self, samples: Float[np.ndarray, " n"]) -> None:
        """Append float32 mono at 16 kHz in [-1, 1]; cheap."""
        ...

    def finish(self) -> None:
        """No sound follows."""
        ...

    def window(self, frame: int, fps: Fraction) -> PendingWindow:
        """The window of a video frame of the utterance, from the sound so far; zero where none was or is known.

        Args:
            frame: not before the frame of the last call.
        """
        ...


def feature_streams(name: str, device: torch.device) -> Callable[[], FeatureStream]:
    """What makes a stream of the features ``name`` for each utterance, computed on ``device``.

    Raises:
        InputError: these features need the whole recording.
        MissingModelError: the package behind them is missing.
    """
    feature = audio_feature(name)
    if feature.streams is None:
        known = " and ".join(kind.name for kind in AUDIO_FEATURES.values() if kind.streams is not None)
        raise InputError(
            f"this avatar listens by '{feature.name}' audio features, which need a whole recording: only {known} come "
            "from a live stream, so train the avatar with one of them."
        )
    module, maker = feature.streams.split(":")
    return getattr(importlib.import_module(module), maker)(feature, device)


def live_windows(
    samples: Float[np.ndarray, " n"],
    frames: Integer[np.ndarray, " F"],
    fps: Fraction,
    look_ahead_ms: int,
    streams: Callable[[], FeatureStream],
) -> Float[Tensor, "F 8 C steps"]:
    """The windows of ``frames`` as a player has them that hears ``look_ahead_ms`` of sound after each frame's end.

    Args:
        samples: of the whole recording, float32 mono at 16 kHz.
        frames: in increasing order, at least one.
        streams: see :func:`feature_streams`.
    """
    stream, pushed, windows = streams(), 0, []
    for begin in range(0, len(frames), LIVE_BATCH):
        pending = []
        for frame in frames[begin : begin + LIVE_BATCH].tolist():
            known = int(((frame + 1) / fps + Fraction(look_ahead_ms, 1000)) * SAMPLE_RATE)
            stream.push(samples[pushed:known])
            pushed = known
            pending.append(stream.window(frame, fps))
        windows += resolved(pending)
    return torch.stack(windows)


def known_window(
    values: Float[np.ndarray, "S C"],
    first: int,
    feature: AudioFeature,
    frame: int,
    fps: Fraction,
    lead: int,
    total: int | None = None,
) -> Float[Tensor, "8 C steps"]:
    """A window from the steps ``first`` on that are known; zero elsewhere.

    Args:
        lead: as in :class:`~emotalking.audio.tracks.StepFeatures`.
        total: frames of the utterance, where that is known.
    """
    known = StepFeatures(values, feature.rate_hz, feature.steps, 0.0, lead - first)
    frames = np.arange(frame - PAST_FRAMES, frame + 1 + FUTURE_FRAMES)
    rows = known.frames(frames, fps)
    # As in the windows of a whole recording.
    rows[(frames < 0) | (frames >= (np.inf if total is None else total))] = 0.0
    return torch.from_numpy(np.ascontiguousarray(rows.transpose(0, 2, 1)))
