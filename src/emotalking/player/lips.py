"""Windows and gate of the mouth from frame to frame, without a jump where speech begins, ends or is cut off."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emotalking.audio.streams import PendingWindow, resolved
from emotalking.audio.vad import CLOSES_S
from emotalking.player.glide import smoothstep

SHUT_S = 0.08
"""Lips are shut so long after an interruption."""
OPEN_S = 0.08
"""The gate takes at least so long to open."""


_LEAST_SHARE = 0.02
"""Windows with less of a mouth are left out of it."""

Mouth = tuple[tuple[PendingWindow, float], ...]
"""Windows of audio features and their shares, which sum to 1; none: silence."""


@dataclass(frozen=True)
class _Shown:
    mouth: Mouth
    gate: float


class Lips:
    """The mouth and its gate in each frame: of the speech, of what fades after it, or of both.

    Args:
        fps: frame rate.
    """

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._shown: _Shown | None = None
        self._fading: Mouth = ()
        self._fade: deque[float] = deque()

    def speak(self, window: PendingWindow, gate: float) -> tuple[Mouth, float]:
        """A frame of speech."""
        if self._shown is not None:
            gate = min(gate, self._shown.gate + 1.0 / (OPEN_S * self._fps))
        return self._show(((window, 1.0),), gate)

    def rest(self) -> tuple[Mouth, float]:
        """A frame without speech."""
        return self._show((), 0.0)

    def fade(self) -> None:
        """Speech has ended, or no more of it has come: what was shown fades as after the last sound of a sentence."""
        frames = int(CLOSES_S[1] * self._fps)
        after = (np.arange(frames) + 0.5) / self._fps
        self._begin_fade(smoothstep((CLOSES_S[1] - after) / (CLOSES_S[1] - CLOSES_S[0])))

    def shut(self) -> None:
        """Speech is cut off: lips are shut within `SHUT_S`."""
        frames = max(1, int(SHUT_S * self._fps + 1e-6))
        self._begin_fade(smoothstep(1.0 - np.arange(1, frames) / frames))

    def _begin_fade(self, shares: Float[np.ndarray, " n"]) -> None:
        if self._shown is not None:
            self._fading = self._shown.mouth
            self._fade = deque(float(self._shown.gate * share) for share in shares)

    def _show(self, mouth: Mouth, gate: float) -> tuple[Mouth, float]:
        old = self._fade.popleft() if self._fade else 0.0
        if old:
            share = old / (old + gate)
            mouth = _scaled(self._fading, share) + _scaled(mouth, 1.0 - share)
        self._shown = _Shown(mouth, min(1.0, old + gate))
        return self._shown.mouth, self._shown.gate


def _scaled(mouth: Mouth, share: float) -> Mouth:
    """The mouth with a smaller share of each window."""
    return tuple((window, part * share) for window, part in mouth if part * share > _LEAST_SHARE)


def mouth_windows(mouths: Sequence[Mouth], shape: tuple[int, int, int]) -> Float[Tensor, "B 8 C S"]:
    """The audio encoder's windows of several frames, on the CPU; their features are computed together.

    Args:
        shape: of a window.
    """
    pending = list(dict.fromkeys(window for mouth in mouths for window, _ in mouth))
    known = dict(zip(pending, resolved(pending), strict=True))
    made = torch.zeros(len(mouths), *shape)
    for row, mouth in zip(made, mouths, strict=True):
        whole = sum(part for _, part in mouth)
        for window, part in mouth:
            row += part / whole * known[window]
    return made
