"""Speech from text: one Protocol, whoever speaks (espeak-ng, gTTS, or a folder of recordings).

Source: paper section 3.3.2 and S5, where speech made from text teaches the lips sounds that the clip never had.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from emotalking.errors import UserError
from emotalking.io.audio import SAMPLE_RATE

SLOWEST, FASTEST = 0.5, 2.5
"""Rates that a speaker takes, relative to its normal pace."""
LONGEST_TEXT = 100_000
"""Characters said at once: about two hours, 400 MB of samples."""


@dataclass(frozen=True)
class Timed:
    """A word or a sound in time."""

    label: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Utterance:
    """Something said."""

    text: str
    language: str
    """As it was asked for: "en", "de", "zh", "en-gb", ..."""
    voice: str
    samples: Float32[np.ndarray, " n"]
    """16 kHz mono in [-1, 1]."""
    words: tuple[Timed, ...] | None
    """In order, without overlap; what lies between is silence. None: their times are not known."""
    phonemes: tuple[Timed, ...] | None
    """IPA without stress and tone, in order, without overlap; None: their times are not known."""
    rate: float = 1.0

    @property
    def seconds(self) -> float:
        """Length of the sound."""
        return len(self.samples) / SAMPLE_RATE


@runtime_checkable
class Speaker(Protocol):
    """Whoever turns text into sound."""

    def say(self, text: str, *, language: str = "en", voice: str | None = None, rate: float | int = 1.0) -> Utterance:
        """Say ``text``.

        Args:
            text: what to say; markup in it is text like any other.
            language: tag such as "en", "en-gb", "de", "fr", "es", "zh".
            voice: one of :meth:`voices`; None is the speaker's own choice.
            rate: pace relative to normal, 0.5 to 2.5.

        Raises:
            UserError: nothing to say, or a language, voice or rate that is not there.
        """
        ...

    def voices(self, language: str = "en") -> tuple[str, ...]:
        """Names of the voices for a language, the most different ones first.

        Raises:
            UserError: a language that is not there.
        """
        ...


@runtime_checkable
class Polyglot(Speaker, Protocol):
    """A speaker that can tell which languages it speaks."""

    def languages(self) -> tuple[str, ...]:
        """Tags that ``language`` may be."""
        ...


def open_speaker(which: str | Path) -> Speaker:
    """The speaker called ``which``.

    Args:
        which: "espeak" (works without a network), "gtts" (needs one), or a folder of sound files.

    Raises:
        UserError: it is not installed, or there is no such folder.
    """
    if which == "espeak":
        from emotalking.tts.espeak import EspeakSpeaker

        return EspeakSpeaker()
    if which == "gtts":
        from emotalking.tts.google import GttsSpeaker

        return GttsSpeaker()
    if Path(which).is_dir():
        from emotalking.tts.recordings import FolderSpeaker

        return FolderSpeaker(which)
    raise UserError(f"there is no speaker '{which}': use espeak, gtts, or a folder of sound files.")


def speakable(text: str) -> str:
    """``text`` in one line, without control characters; unusual spaces and apostrophes made usual.

    Raises:
        UserError: nothing in it can be said, or it is too long.
    """
    if len(text) > LONGEST_TEXT:
        raise UserError(f"the text has {len(text)} characters: say at most {LONGEST_TEXT} at once, in parts.")
    plain = "".join(" " if unicodedata.category(sign)[0] in "CZ" and sign not in _JOINERS else sign for sign in text)
    plain = " ".join(plain.replace("’", "'").split())
    if not any(unicodedata.category(sign)[0] in "LNS" for sign in plain):
        raise UserError(f"there is nothing to say in {_short(text)!r}: give words.")
    return plain


_JOINERS = "\u200c\u200d"
"""Zero-width signs that Persian and Indic spelling need."""


def checked_rate(rate: float | int) -> float:
    """``rate`` as a float.

    Raises:
        UserError: it is not between 0.5 and 2.5.
    """
    if not SLOWEST <= rate <= FASTEST:
        raise UserError(f"the rate is {rate:g}: give {SLOWEST:g} (slow) to {FASTEST:g} (fast), 1 is normal.")
    return float(rate)


def choose_voice(voice: str | None, voices: Sequence[str], language: str) -> str:
    """``voice``, or the first of ``voices``.

    Raises:
        UserError: it is not one of them.
    """
    if voice is None:
        return voices[0]
    if voice not in voices:
        shown = ", ".join(voices[:8]) + (f" and {len(voices) - 8} more" if len(voices) > 8 else "")
        raise UserError(f"there is no voice '{voice}' for '{language}': there are {shown} ('emotalking say --voices').")
    return voice


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"
