"""Audio features and voice activity of sound while it comes in."""

import importlib
from collections.abc import Callable
from fractions import Fraction
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emotalking.audio.tracks import StepFeatures
from emotalking.audio.windows import FUTURE_FRAMES, PAST_FRAMES
from emotalking.data.audio_features import AUDIO_FEATURES, AudioFeature, audio_feature
from emotalking.errors import UserError


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

    def window(self, frame: int, fps: Fraction | float | int) -> Float[Tensor, "8 C steps"]:
        """The audio encoder's window of a video frame of the utterance; zero where no sound was or is known.

        Args:
            frame: not before the frame of the last call.
        """
        ...


def feature_streams(name: str) -> Callable[[], FeatureStream]:
    """What makes a stream of the features ``name`` for each utterance.

    Raises:
        UserError: these features need the whole recording.
        MissingModelError: the package behind them is missing.
    """
    feature = audio_feature(name)
    if feature.streams is None:
        known = " and ".join(kind.name for kind in AUDIO_FEATURES.values() if kind.streams is not None)
        raise UserError(
            f"this avatar listens by '{feature.name}' audio features, which need a whole recording: only {known} come "
            "from a live stream, so train the avatar with one of them."
        )
    module, maker = feature.streams.split(":")
    return getattr(importlib.import_module(module), maker)(feature)


def known_window(
    values: Float[np.ndarray, "S C"],
    first: int,
    feature: AudioFeature,
    frame: int,
    fps: Fraction | float | int,
    lead: int,
) -> Float[Tensor, "8 C steps"]:
    """A window from the steps ``first`` on that are known; zero elsewhere.

    Args:
        lead: as in :class:`~emotalking.audio.tracks.StepFeatures`.
    """
    known = StepFeatures(values, feature.rate_hz, feature.steps, 0.0, lead - first)
    rows = known.frames(np.arange(frame - PAST_FRAMES, frame + 1 + FUTURE_FRAMES), fps)
    return torch.from_numpy(np.ascontiguousarray(rows.transpose(0, 2, 1)))
