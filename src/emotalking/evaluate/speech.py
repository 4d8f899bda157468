"""Unseen speech for the cross-domain and the emotion scenario (paper 4.1)."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from emotalking.errors import InputError
from emotalking.io.audio import SAMPLE_RATE, load_audio, save_wav

SHORTEST_S = 0.1
"""Minimum length of speech, seconds."""
PAUSE_S = 0.3
"""Silence between two spoken sentences."""
SETS = 2
"""Number of sounds made from the curated sentences, each with another voice, as the paper tests on A and B."""


@dataclass(frozen=True)
class Speech:
    """Speech of one sound file."""

    name: str
    """File name, or voice and sentences."""
    samples: Float[np.ndarray, " n"]
    """16 kHz mono in [-1, 1]."""

    @property
    def sha256(self) -> str:
        """Hash of the samples as 16-bit integers: the same sound in another container has the same."""
        return hashlib.sha256(np.round(self.samples * 32767).astype("<i2").tobytes()).hexdigest()

    def frames(self, fps: float | int, limit: int | None) -> int:
        """Number of complete video frames, at most ``limit``."""
        whole = int(len(self.samples) / SAMPLE_RATE * float(fps) + 1e-6)
        return whole if limit is None else min(whole, limit)

    def under(self, count: int, fps: float | int) -> Float[np.ndarray, " S"]:
        """The sound under the first ``count`` frames."""
        return self.samples[: int(count / fps * SAMPLE_RATE)]


@dataclass(frozen=True)
class UnseenSpeech:
    """Unrecorded speech and emotion that all systems render."""

    speech: Speech
    va: tuple[float, float] | None = None
    """Commanded valence and arousal; None: none."""

    def commanded(self, count: int) -> Float[np.ndarray, "N 2"] | None:
        """Commanded valence and arousal per frame."""
        return None if self.va is None else np.tile(np.array(self.va, np.float64), (count, 1))


def unseen_of(audio: Path | None, va: tuple[float, float] | None) -> UnseenSpeech | None:
    """Speech and emotion of a comparison without recorded frames; None without ``audio``.

    Raises:
        InputError: a sound that cannot be read, or an emotion without one.
    """
    if va is not None and audio is None:
        raise InputError("va: commands the emotion of speech that was never recorded, so it needs audio too.")
    return None if audio is None else UnseenSpeech(sounds_to_speak([audio], audio.parent)[0], va)


def sounds_to_speak(files: Sequence[Path], folder: Path, longest_s: float | int | None = None) -> tuple[Speech, ...]:
    """Collect the speech of an evaluation.

    Args:
        files: sound or video files; none: the paper's ten sentences in two voices of the offline synthesizer.
        folder: the sentences are stored here as wav files, and read from here if they exist: espeak-ng never says a
            sentence twice alike.
        longest_s: read at most this many seconds of each, so that a long file costs no memory.

    Raises:
        InputError: a file that cannot be read or holds hardly any sound, or no file and no offline synthesizer.
    """
    longest_s = None if longest_s is None else max(longest_s, SHORTEST_S)
    files = files or sorted(folder.glob("*.wav")) or _speak(folder)
    sounds = tuple(Speech(path.name, load_audio(path, longest_s=longest_s)) for path in files)
    for sound in sounds:
        if len(sound.samples) < SHORTEST_S * SAMPLE_RATE:
            seconds = len(sound.samples) / SAMPLE_RATE
            raise InputError(f"{sound.name} holds {seconds:.2f} s of sound: give at least {SHORTEST_S:g} s.")
    return sounds


def _speak(folder: Path) -> list[Path]:
    """The curated sentences as files; a synthesizer with one voice says all in one."""
    from emotalking.tts.backends import open_synthesizer
    from emotalking.tts.sentences import curated

    try:
        synthesizer = open_synthesizer("auto")
        voices = synthesizer.voices("en")[:SETS]
    except InputError as error:
        raise InputError(
            "there is no speech to test with: give audio files, or install the offline synthesizer "
            f"({str(error).rstrip('.')})."
        ) from error
    pause = np.zeros(int(PAUSE_S * SAMPLE_RATE), np.float32)
    sentences = curated("en")
    each = len(sentences) // len(voices)
    made = {}
    for turn, voice in enumerate(voices):
        first, last = turn * each, (turn + 1) * each
        spoken = [synthesizer.synthesize(text, language="en", voice=voice).samples for text in sentences[first:last]]
        name = f"{'AB'[turn]}_{voice}_sentences_{first + 1}-{last}.wav"
        made[folder / name] = np.concatenate([piece for samples in spoken for piece in (samples, pause)])
    # Write only when all are synthesized: a part must not be taken for the whole on the next run.
    for path, samples in made.items():
        save_wav(path, samples)
    return list(made)
