"""Log-mel features of sound while it comes in, normalised by what was heard so far."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import torch
from jaxtyping import Float

from emotalking.audio.mel import CHANNELS, HOP, PREEMPHASIS, WINDOW, mel_power, normalised_by
from emotalking.audio.recent import RecentRows
from emotalking.audio.streams import FeatureStream, PendingWindow, known_window
from emotalking.data.audio_features import AudioFeature

_REMEMBERED = 750
"""Steps whose level, noise, mean and deviation count: 15 s."""
_KEPT = 64
"""Steps that windows are cut from."""
_LEAD = (WINDOW - HOP) // 2


def streams(feature: AudioFeature, device: torch.device) -> Callable[[], FeatureStream]:
    """What makes a stream of these features for each utterance; the voice heard in one is known in the next."""
    voice = RecentRows(CHANNELS + 1, _REMEMBERED)
    return lambda: MelWindows(feature, voice)


class MelWindows:
    """Windows of one utterance while it comes in (:class:`~emotalking.audio.streams.FeatureStream`).

    Args:
        feature: the row of these features.
        voice: mel power and mean square of what was heard; appended to.
    """

    def __init__(self, feature: AudioFeature, voice: RecentRows) -> None:
        self._feature, self._voice = feature, voice
        self._last = np.zeros(1, np.float32)
        self._signal = np.zeros(_LEAD, np.float32)
        self._rows = RecentRows(CHANNELS + 1, _KEPT)
        self._steps = 0
        self._samples = 0
        self._finished = False

    def push(self, samples: Float[np.ndarray, " n"]) -> None:
        """Append sound."""
        joined = np.concatenate([self._last, samples])
        self._last = joined[-1:]
        self._samples += len(samples)
        self._hear(joined[1:] - np.float32(PREEMPHASIS) * joined[:-1])

    def finish(self) -> None:
        """No sound follows: a step that was begun counts."""
        self._finished = True
        rest = -(-self._samples // HOP) - self._steps
        self._hear(np.zeros(max(0, (rest - 1) * HOP + WINDOW - len(self._signal)) if rest > 0 else 0, np.float32))

    def window(self, frame: int, fps: Fraction) -> PendingWindow:
        """The window of a frame."""
        rows, voice = self._rows.held, self._voice.held
        if len(self._signal) >= WINDOW - _LEAD:  # the window ends in what weighs nothing
            last = np.pad(self._signal, (0, WINDOW))[:WINDOW]
            rows = np.concatenate([rows, self._measured(last)])
        values = normalised_by(voice[:, :-1], voice[:, -1], rows[:, :-1], rows[:, -1])
        total = -(-self._samples * fps // 16000) if self._finished else None
        first = self._steps - len(self._rows.held)
        made = known_window(values, first, self._feature, frame, fps, lead=0, total=total)
        return PendingWindow(made)

    def _hear(self, signal: Float[np.ndarray, " n"]) -> None:
        """Measure the steps whose windows are there."""
        self._signal = np.concatenate([self._signal, signal])
        fresh = (len(self._signal) - WINDOW) // HOP + 1
        if fresh <= 0:
            return
        rows = self._measured(self._signal[: (fresh - 1) * HOP + WINDOW])
        self._signal = self._signal[fresh * HOP :]
        self._rows.append(rows)
        self._voice.append(rows)
        self._steps += fresh

    def _measured(self, signal: Float[np.ndarray, " n"]) -> Float[np.ndarray, "steps width"]:
        """Mel power and mean square of all windows in ``signal``."""
        return np.column_stack(mel_power(np.lib.stride_tricks.sliding_window_view(signal, WINDOW)[::HOP]))
