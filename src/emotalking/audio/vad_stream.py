"""Voice activity of sound while it comes in: the detector of :mod:`emotalking.audio.vad` on what was heard so far.

Each step is measured 22 ms after its end, against the noise of the last 6 s. What cannot be known yet is taken for the
likelier: speech goes on, and a pause is short until it has lasted 0.2 s.
"""

from dataclasses import astuple

import numpy as np
from jaxtyping import Float
from scipy.ndimage import uniform_filter1d

from emotalking.audio.mel import HOP
from emotalking.audio.recent import RecentRows
from emotalking.audio.vad import (
    DIGITAL_SILENCE,
    FINE,
    FLOOR_EVERY,
    FLOOR_REACH,
    FLOOR_SMOOTH,
    QUICK,
    STEP_S,
    Measures,
    VoiceActivity,
    decide,
    measures,
    powers,
    steady_noise,
)

_LEAD = (FINE - HOP) // 2
"""Samples of a step's longest window before the step begins, and after it ends."""
_FLOOR_STEPS = 2 * FLOOR_REACH + FLOOR_EVERY
_FIRST_FLOOR = 75
"""Sounding steps from which on the noise under them is known."""
_SETTLE = 7
"""Last steps whose measures change with the steps after them."""
_DECIDED = 220
"""Steps that bear on the decisions about the last ones."""


class GateStream:
    """The mouth's gate of one utterance while it comes in."""

    def __init__(self) -> None:
        self._sound = np.zeros(_LEAD, np.float32)
        """From the first sample that the next step's window needs."""
        bins = FINE // 2 + 1
        self._quick, self._fine = RecentRows(bins, _FLOOR_STEPS), RecentRows(bins, _FLOOR_STEPS)
        self._floors = np.zeros((2, bins), np.float32)
        self._measured = RecentRows(5, _DECIDED)
        self._steps = 0
        self._finished = False

    def push(self, samples: Float[np.ndarray, " n"]) -> None:
        """Append float32 mono at 16 kHz in [-1, 1]; cheap."""
        self._sound = np.concatenate([self._sound, samples])

    def finish(self) -> None:
        """No sound follows."""
        self._sound = np.pad(self._sound, (0, _LEAD + -(len(self._sound) - _LEAD) % HOP))
        self._finished = True

    def at(self, time_s: float) -> float:
        """The gate at a time of the utterance: 1 in speech, 0 in silence.

        Args:
            time_s: not far before the end of the sound: what is long past is forgotten.
        """
        self._advance()
        held = self._measured.held
        if not len(held):
            return 0.0
        decided = decide(Measures(*held.T), ongoing=not self._finished)
        ago = self._steps - len(held)
        return float(VoiceActivity([decided]).at(np.array([time_s - ago * STEP_S]))[0])

    def _advance(self) -> None:
        """Measure the steps whose windows are there."""
        fresh = (len(self._sound) - 2 * _LEAD) // HOP
        if fresh <= 0:
            return
        sound = self._sound[: fresh * HOP + 2 * _LEAD]
        self._sound = self._sound[fresh * HOP :]
        middle = _LEAD - (QUICK - HOP) // 2
        self._quick.append(powers(sound[middle : len(sound) - middle], QUICK))
        self._fine.append(powers(sound, FINE))
        before, self._steps = self._steps, self._steps + fresh
        if before // FLOOR_EVERY != self._steps // FLOOR_EVERY:
            self._learn_noise()
        again = min(self._steps, fresh + _SETTLE, len(self._quick.held))
        block = min(len(self._quick.held), again + _SETTLE)
        quick, fine = self._quick.held[-block:], self._fine.held[-block:]
        made = measures(quick, fine, *(np.broadcast_to(floor, quick.shape) for floor in self._floors))
        self._measured.append(np.stack(astuple(made), 1)[-again:], again - fresh)

    def _learn_noise(self) -> None:
        """Take the noise of the last seconds."""
        quick, fine = self._quick.held, self._fine.held
        audible = quick.sum(1) > DIGITAL_SILENCE
        if audible.sum() >= _FIRST_FLOOR:
            smooth = (uniform_filter1d(power, FLOOR_SMOOTH, axis=0, mode="nearest")[audible] for power in (quick, fine))
            self._floors = np.stack([steady_noise(rows) for rows in smooth])
