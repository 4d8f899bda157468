"""Speech from text: the protocol of the back ends (hibari, espeak-ng, gTTS, recordings) and what they share.

Source: paper section 3.3.2 and S5, where speech made from text teaches the lips phonemes that the clip never had.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from emotalking.errors import InputError
from emotalking.io.audio import SAMPLE_RATE

SLOWEST, FASTEST = 0.5, 2.5
"""Limits of the speaking rate, relative to the normal one."""
LONGEST_TEXT = 100_000
"""Characters of one utterance: about two hours, 400 MB of samples."""


HIBARI_LICENCE = "Apache-2.0"
ESPEAK_LICENCE = "GPL-3.0-or-later as a program; what it says is free"


@dataclass(frozen=True)
class TimedLabel:
    """A word or a phoneme in time."""

    label: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Utterance:
    """Synthesised or recorded speech with its text and, where they are known, the times of words and phonemes."""

    text: str
    language: str
    """Tag as requested: "en", "de", "zh", "en-gb", ..."""
    voice: str
    samples: Float32[np.ndarray, " n"]
    """16 kHz mono in [-1, 1]."""
    words: tuple[TimedLabel, ...] | None
    """In order, without overlap; gaps are silence. None: unknown times."""
    phonemes: tuple[TimedLabel, ...] | None
    """IPA without stress and tone, in order, without overlap; None: their times are not known."""
    rate: float = 1.0
    made: Literal["trained", "by rules", "recorded"] = "trained"
    """By a trained network, by rules, or spoken by a person, at whatever tempo."""
    licences: Mapping[str, str] = field(default_factory=dict)
    """Licence of each program and voice that made it."""

    @property
    def seconds(self) -> float:
        """Length of the sound."""
        return len(self.samples) / SAMPLE_RATE


@runtime_checkable
class Synthesizer(Protocol):
    """Text to speech."""

    def synthesize(
        self, text: str, *, language: str = "en", voice: str | None = None, rate: float | int = 1.0
    ) -> Utterance:
        """Synthesise ``text``.

        Args:
            text: plain text; markup in it is text like any other.
            language: tag such as "en", "en-gb", "de", "fr", "es", "zh".
            voice: one of :meth:`voices`; None: the first of them.
            rate: speaking rate relative to normal, 0.5 to 2.5.

        Raises:
            InputError: the text is empty, or the language, voice or rate is unknown.
        """
        ...

    def voices(self, language: str = "en") -> tuple[str, ...]:
        """Names of the voices for a language, the most different ones first.

        Raises:
            InputError: an unknown language.
        """
        ...

    def languages(self) -> tuple[str, ...]:
        """Tags that ``language`` may be; empty: not known."""
        ...


_JOINERS = "\u200c\u200d"
"""Zero-width signs that Persian and Indic spelling need."""


def normalize_text(text: str) -> str:
    """``text`` in one line, without control characters; unusual spaces and apostrophes made usual.

    Raises:
        InputError: it has no words, or is too long.
    """
    if len(text) > LONGEST_TEXT:
        raise InputError(f"the text has {len(text)} characters: give at most {LONGEST_TEXT} at once, in parts.")
    plain = "".join(" " if unicodedata.category(sign)[0] in "CZ" and sign not in _JOINERS else sign for sign in text)
    plain = " ".join(plain.replace("’", "'").split())
    if not any(unicodedata.category(sign)[0] in "LNS" for sign in plain):
        shown = text if len(text) <= 40 else text[:39] + "…"
        raise InputError(f"the text {shown!r} has no words: give a text to speak.")
    return plain


def check_rate(rate: float | int) -> float:
    """``rate`` as a float.

    Raises:
        InputError: it is not between 0.5 and 2.5.
    """
    if not SLOWEST <= rate <= FASTEST:
        raise InputError(f"the rate is {rate:g}: give {SLOWEST:g} (slow) to {FASTEST:g} (fast), 1 is normal.")
    return float(rate)


def choose_voice(voice: str | None, voices: Sequence[str], language: str) -> str:
    """``voice``, or the first of ``voices``.

    Raises:
        InputError: it is not one of them.
    """
    if voice is None:
        return voices[0]
    if voice not in voices:
        shown = ", ".join(voices[:8]) + (f" and {len(voices) - 8} more" if len(voices) > 8 else "")
        raise InputError(f"there is no voice '{voice}' for '{language}': there are {shown}.")
    return voice


def base_language(tag: str) -> str:
    """First part of a language tag: "en" of "en-GB"."""
    return tag.lower().replace("_", "-").split("-")[0]


def bare_word(word: str) -> str:
    """``word`` without the punctuation around it, unless it is only punctuation."""
    kept = [i for i, sign in enumerate(word) if unicodedata.category(sign)[0] not in "PZ"]
    return word[kept[0] : kept[-1] + 1] if kept else word.strip()
