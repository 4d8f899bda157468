"""Windows and gate of the mouth from frame to frame, without a jump where speech begins, ends or is cut off."""

from collections import deque

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emotalking.audio.vad import CLOSES_S
from emotalking.player.glide import smoothstep

SHUT_S = 0.08
"""Lips are shut so long after an interruption."""
OPEN_S = 0.08
"""The gate takes at least so long to open."""


class Lips:
    """The mouth's window and gate of each frame: of the speech, of what fades after it, or of both.

    Args:
        shape: of a window.
        fps: frame rate.
    """

    def __init__(self, shape: tuple[int, int, int], fps: float) -> None:
        self._rest = torch.zeros(shape)
        self._fps = fps
        self._shown: tuple[Float[Tensor, "8 C S"], float] = self._rest, 0.0
        self._begun = False
        self._fading = self._rest
        self._fade: deque[float] = deque()

    def speak(self, window: Float[Tensor, "8 C S"], gate: float) -> tuple[Float[Tensor, "8 C S"], float]:
        """A frame of speech."""
        if self._begun:
            gate = min(gate, self._shown[1] + 1.0 / (OPEN_S * self._fps))
        return self._show(window, gate)

    def fade(self) -> None:
        """Speech has ended, or no more of it has come: what was shown fades as after the last sound of a sentence."""
        frames = int(CLOSES_S[1] * self._fps)
        after = (np.arange(frames) + 0.5) / self._fps
        self._begin_fade(smoothstep((CLOSES_S[1] - after) / (CLOSES_S[1] - CLOSES_S[0])))

    def shut(self) -> None:
        """Speech is cut off: lips are shut within `SHUT_S`."""
        frames = max(1, int(SHUT_S * self._fps + 1e-6))
        self._begin_fade(smoothstep(1.0 - np.arange(1, frames) / frames))

    def rest(self) -> tuple[Float[Tensor, "8 C S"], float]:
        """A frame without speech."""
        return self._show(self._rest, 0.0)

    def _begin_fade(self, shares: Float[np.ndarray, " n"]) -> None:
        window, gate = self._shown
        self._fading, self._fade = window, deque(float(gate * share) for share in shares)

    def _show(self, window: Float[Tensor, "8 C S"], gate: float) -> tuple[Float[Tensor, "8 C S"], float]:
        old = self._fade.popleft() if self._fade else 0.0
        if old:
            window = torch.lerp(window, self._fading, old / (old + gate))
        self._shown, self._begun = (window, min(1.0, old + gate)), True
        return self._shown
