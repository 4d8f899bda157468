"""One utterance of a live avatar: sound that is pushed, and the frames that it is cut into."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Float

from emotalking.audio.resampling import LazyResampler
from emotalking.audio.streams import FeatureStream, PendingWindow
from emotalking.audio.vad_stream import GateStream
from emotalking.errors import InputError
from emotalking.io.audio import SAMPLE_RATE

GateAt = tuple[GateStream, float]
"""A gate, and the time of the utterance that a frame asks it for."""


@dataclass(frozen=True)
class SpokenFrame:
    """Sound and mouth of one frame."""

    audio: Float[np.ndarray, " n"]
    window: PendingWindow
    gate: float
    position_s: float
    """Sound of the utterance until the end of the frame, seconds."""
    ended: bool
    heard: Float[np.ndarray, " m"]
    """Sound at 16 kHz that the mouth depends on and did not before."""


class Spoken:
    """An utterance that is pushed and played at the same time.

    Args:
        number: from 1.
        rate: of the pushed sound, Hz.
        sample_rate: of the played sound, Hz.
        fps: frame rate.
        look_ahead_s: sound after a frame that its lips depend on.
        features: of this utterance.
        gate: of this utterance; None: always open.
    """

    def __init__(
        self,
        number: int,
        rate: int,
        sample_rate: int,
        fps: Fraction,
        look_ahead_s: float,
        features: FeatureStream,
        gate: GateStream | None,
    ) -> None:
        self.number = number
        self.rate = rate
        self.closed = False
        self._sample_rate, self._fps, self._look_ahead_s = sample_rate, fps, look_ahead_s
        self._heard, self._played = LazyResampler(rate, SAMPLE_RATE), LazyResampler(rate, sample_rate)
        self._features, self._gate = features, gate
        self._pushed = self._fed = self._taken = self._frame = 0
        self._finished = False
        self._new: np.ndarray | None = None
        """Sound that was heard for the next frame."""

    @property
    def position_s(self) -> float:
        """Sound played so far, seconds."""
        return self._taken / self._sample_rate

    @property
    def queued_s(self) -> float:
        """Sound pushed and not yet played, seconds."""
        return max(0.0, self._pushed / self.rate - self.position_s)

    def push(self, samples: Float[np.ndarray, " n"], rate: int) -> None:
        """Append sound.

        Raises:
            InputError: another rate than before.
        """
        if rate != self.rate:
            raise InputError(
                f"the sound of this utterance came at {self.rate} Hz and now comes at {rate}: flush before the rate "
                "changes."
            )
        self._heard.push(samples)
        self._played.push(samples)
        self._pushed += len(samples)

    def close(self) -> None:
        """No sound follows."""
        self.closed = True
        self._heard.close()
        self._played.close()

    def ready(self, count: int) -> bool:
        """True if the next frame, of ``count`` samples, and the look-ahead after it are there, or the sound has
        ended."""
        return self._played.has(count) and self._heard.has(self._needed() - self._fed)

    def hear(self) -> GateAt | None:
        """Listen to what the next frame depends on; what it asks the gate."""
        if self._new is None:
            self._new = self._heard.take(self._needed() - self._fed)
            self._fed += len(self._new)
            self._features.push(self._new)
            if self._gate is not None:
                self._gate.push(self._new)
            if self._heard.empty and not self._finished:
                self._finished = True
                self._features.finish()
                if self._gate is not None:
                    self._gate.finish()
        return None if self._gate is None else (self._gate, (self._frame + 0.5) / float(self._fps))

    def next_frame(self, count: int) -> SpokenFrame:
        """The next frame; costs the same however much sound is queued."""
        asked = self.hear()
        assert self._new is not None
        sound, self._new = self._new, None
        audio = self._played.take(count)
        self._taken += len(audio)
        ended = self._played.empty
        window = self._features.window(self._frame, self._fps)
        gate = 1.0 if asked is None else asked[0].at(asked[1])
        self._frame += 1
        if len(audio) < count:
            audio = np.pad(audio, (0, count - len(audio)))
        return SpokenFrame(audio, window, gate, self.position_s, ended, sound)

    def _needed(self) -> int:
        """Samples at 16 kHz that the next frame depends on."""
        return int(np.ceil(((self._frame + 1) / float(self._fps) + self._look_ahead_s) * SAMPLE_RATE - 1e-6))
