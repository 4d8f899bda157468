"""Voice activity of sound while it comes in: the detector of :mod:`emotalking.audio.vad` on what was heard so far."""

import numpy as np
from jaxtyping import Float

from emotalking.audio.mel import HOP
from emotalking.audio.vad import STEP_S, VoiceActivity, _decide, _measure

_KEPT = 300
"""Steps that bear on a decision."""


class GateStream:
    """The mouth's gate of one utterance while it comes in."""

    def __init__(self) -> None:
        self._sound = np.zeros(0, np.float32)
        self._first = 0

    def push(self, samples: Float[np.ndarray, " n"]) -> None:
        """Append float32 mono at 16 kHz in [-1, 1]; cheap."""
        sound = np.concatenate([self._sound, samples])
        dropped = max(0, len(sound) // HOP - _KEPT)
        self._sound = sound[dropped * HOP :]
        self._first += dropped

    def at(self, time_s: float) -> float:
        """The gate at a time of the utterance: 1 in speech, 0 in silence."""
        if not len(self._sound):
            return 0.0
        decided = _decide(_measure(self._sound))
        return float(VoiceActivity([decided]).at(np.array([time_s - self._first * STEP_S]))[0])
