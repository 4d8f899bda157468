"""What the player needs of an avatar and of an emotion."""

from fractions import Fraction
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from emotalking.models.compositor import ComposedFrames

Motion = Literal["recorded", "expressive", "fixed"]
"""Head motion: as recorded, by speech and emotion, or none."""


@runtime_checkable
class PlayableAvatar(Protocol):
    """The part of ``models.avatar.Avatar`` that the player uses; ``evaluate.held_out`` has another implementation."""

    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def fps(self) -> Fraction: ...
    @property
    def viewmats(self) -> Float[np.ndarray, "P 4 4"]: ...
    @property
    def aus(self) -> Float[np.ndarray, "P 6"]: ...
    @property
    def background(self) -> UInt8[np.ndarray, "H W 3"]: ...
    @property
    def audio_features(self) -> str: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def closes_lips(self) -> bool: ...
    @property
    def emotional(self) -> bool: ...

    def torso(self, index: int) -> UInt8[np.ndarray, "H W 4"]:
        """Straight-alpha torso layer of a recorded pose."""
        ...

    def render(
        self,
        viewmats: Float[Tensor, "B 4 4"],
        audio_windows: Float[Tensor, "B 8 C steps"],
        aus: Float[Tensor, "B 6"],
        va: Float[Tensor, "B 2"] | None = None,
        background: Float[Tensor, "B H W 3"] | None = None,
        speech: Float[Tensor, " B"] | None = None,
        *,
        gaze: Float[Tensor, "B 2"] | None = None,
    ) -> ComposedFrames:
        """Render frames of B conditions; ``gaze`` is given where the avatar has a recorded one as its own ``gaze``."""
        ...


@runtime_checkable
class Emotion(Protocol):
    """The part of ``emotion.tracks.EmotionTrack`` that the player uses."""

    def at(self, times_s: Float[np.ndarray, " T"]) -> Float[np.ndarray, "T 2"]:
        """Valence and arousal [T, 2] in [-1, 1] at times [T] in seconds."""
        ...


Gaze = Emotion
"""Where the eyes look over time: x and y in [-1, 1] at times in seconds."""
