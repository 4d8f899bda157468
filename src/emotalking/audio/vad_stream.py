"""Voice activity of sound while it comes in: the detector of :mod:`emotalking.audio.vad` on what was heard so far.

Each step is measured 22 ms after its end, against the noise of the last 6 s. What cannot be known yet is taken for the
likelier: speech goes on, and a pause is short until it has lasted 0.2 s. Many streams are measured together: a frame of
one alone is mostly the overhead of calls on short arrays.
"""

from collections.abc import Sequence
from dataclasses import astuple
from typing import NamedTuple

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
    ROW,
    STEADY_REACH,
    STEP_S,
    Measures,
    decide,
    gate_at,
    measures,
    powers,
    rows,
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
        self._rows = np.zeros((0, ROW), np.float32)
        """Of the last steps, which the measures of new ones depend on."""
        self._measured = RecentRows(5, _DECIDED)
        self._steps = 0
        self._finished = False
        self._known: dict[float, float] = {}
        """The gate by the time, until more sound comes."""

    def push(self, samples: Float[np.ndarray, " n"]) -> None:
        """Append float32 mono at 16 kHz in [-1, 1]; cheap."""
        self._sound = np.concatenate([self._sound, samples])
        self._known = {}

    def finish(self) -> None:
        """No sound follows."""
        self._sound = np.pad(self._sound, (0, _LEAD + -(len(self._sound) - _LEAD) % HOP))
        self._finished = True
        self._known = {}

    def at(self, time_s: float) -> float:
        """The gate at a time of the utterance: 1 in speech, 0 in silence.

        Args:
            time_s: not far before the end of the sound: what is long past is forgotten.
        """
        know_gates([(self, time_s)])
        return self._known[time_s]

    @property
    def fresh(self) -> int:
        """Steps whose windows are there and that were not measured."""
        return max(0, (len(self._sound) - 2 * _LEAD) // HOP)

    def _hear(self, quick: Float[np.ndarray, "fresh bins"], fine: Float[np.ndarray, "fresh bins"]) -> "_Work":
        """Append spectra of the fresh steps; what is to be computed then."""
        fresh = len(quick)
        self._sound = self._sound[fresh * HOP :]
        self._quick.append(quick)
        self._fine.append(fine)
        before, self._steps = self._steps, self._steps + fresh
        held = len(self._quick.held)
        learned = before // FLOOR_EVERY != self._steps // FLOOR_EVERY and self._learn_noise()
        again = min(held, fresh + _SETTLE)
        block = min(held, again + _SETTLE)
        return _Work(fresh, block if learned else min(held, fresh), again, block)

    def _learn_noise(self) -> bool:
        """Take the noise of the last seconds; False: it is not known yet."""
        quick, fine = self._quick.held, self._fine.held
        audible = quick.sum(1) > DIGITAL_SILENCE
        if audible.sum() < _FIRST_FLOOR:
            return False
        smooth = (uniform_filter1d(power, FLOOR_SMOOTH, axis=0, mode="nearest")[audible] for power in (quick, fine))
        self._floors = np.stack([steady_noise(each) for each in smooth])
        return True


class _Work(NamedTuple):
    """Numbers of steps, of which those of several streams are computed together where they are the same."""

    fresh: int
    rows: int
    """Last steps whose rows are new; all that are needed if the noise has changed."""
    again: int
    """Last steps whose measures change."""
    block: int
    """Last steps that these depend on."""


def know_gates(wanted: Sequence[tuple[GateStream, float]]) -> None:
    """Compute what :meth:`GateStream.at` gives for streams and times, of all together.

    Args:
        wanted: each stream once.
    """
    asked = [(stream, time_s) for stream, time_s in wanted if time_s not in stream._known]
    _advance([stream for stream, _ in asked])
    for stream, time_s in asked:
        if not stream._steps:
            stream._known[time_s] = 0.0
    asked = [(stream, time_s) for stream, time_s in asked if stream._steps]
    if not asked:
        return
    held = [stream._measured.held for stream, _ in asked]
    width = max(map(len, held)) + STEADY_REACH
    first = np.array([width - len(each) for each in held])
    mirrored = np.stack([_mirrored(each, width) for each in held])
    ongoing = np.array([not stream._finished for stream, _ in asked])
    decided = decide(Measures(*np.moveaxis(mirrored, -1, 0)), ongoing, first)
    # Seconds from the first column on.
    times_s = [time_s - (stream._steps - width) * STEP_S for stream, time_s in asked]
    for (stream, time_s), gate in zip(asked, gate_at(decided, np.array(times_s)[:, None], first)[:, 0], strict=True):
        stream._known[time_s] = float(gate)


def _advance(streams: Sequence[GateStream]) -> None:
    """Measure the steps whose windows are there."""
    middle = _LEAD - (QUICK - HOP) // 2
    work: dict[_Work, list[GateStream]] = {}
    by_fresh: dict[int, list[GateStream]] = {}
    for stream in streams:
        by_fresh.setdefault(stream.fresh, []).append(stream)
    for fresh, group in by_fresh.items():
        if fresh:
            sound = np.stack([stream._sound[: fresh * HOP + 2 * _LEAD] for stream in group])
            spectra = powers(sound[:, middle : sound.shape[1] - middle], QUICK), powers(sound, FINE)
            for stream, quick, fine in zip(group, *spectra, strict=True):
                work.setdefault(stream._hear(quick, fine), []).append(stream)
    for todo, group in work.items():
        floors = np.stack([stream._floors for stream in group], 1)[:, :, None]
        quick = np.stack([stream._quick.held[-todo.rows :] for stream in group])
        fine = np.stack([stream._fine.held[-todo.rows :] for stream in group])
        for stream, new in zip(group, rows(quick, fine, *floors), strict=True):
            kept = stream._rows[: len(stream._rows) - (todo.rows - todo.fresh)]
            stream._rows = np.concatenate([kept, new])[-todo.block :]
        made = measures(np.stack([stream._rows for stream in group]))
        for stream, measured in zip(group, np.stack(astuple(made), -1), strict=True):
            stream._measured.append(measured[-todo.again :], todo.again - todo.fresh)
            stream._rows = stream._rows[-2 * _SETTLE :]


def _mirrored(rows: Float[np.ndarray, "n columns"], width: int) -> Float[np.ndarray, "width columns"]:
    """Rows with their first ones mirrored before them, as often as needed."""
    place = np.arange(len(rows) - width, len(rows)) % (2 * len(rows))
    return rows[np.minimum(place, 2 * len(rows) - 1 - place)]
