"""Real words for the actor: the sound of a synthesizer, and the actor's mouth shapes at the times of its phonemes."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from emotalking.errors import InputError
from emotalking.testing.actor.speech import PAUSE, SAMPLE_RATE_HZ, Segment
from emotalking.tts.backends import open_synthesizer
from emotalking.tts.base import Synthesizer, Utterance
from emotalking.tts.phonemes import inventory
from emotalking.tts.timing import without_gaps

NEAREST = {
    "p": "P", "b": "B", "t": "T", "d": "D", "k": "K", "ɡ": "G", "tʃ": "T SH", "dʒ": "D SH", "f": "F", "v": "V",
    "θ": "T", "ð": "D", "s": "S", "z": "Z", "ʃ": "SH", "ʒ": "SH", "h": "HH", "m": "M", "n": "N", "ŋ": "N", "l": "L",
    "ɹ": "R", "j": "IY", "w": "W", "iː": "IY", "ɪ": "IH", "eɪ": "EH IH", "ɛ": "EH", "æ": "AE", "ɑː": "AA", "ɔː": "AO",
    "oʊ": "OW", "ʊ": "UW", "uː": "UW", "ʌ": "AH", "ə": "AH", "ɝ": "ER", "aɪ": "AA IH", "aʊ": "AA UW", "ɔɪ": "AO IH",
}  # fmt: skip
"""Phonemes of English as sounds of the actor's, one after another."""
_FADE_S = 0.01


@dataclass(frozen=True)
class SpokenText:
    """A sound whose mouth shapes are known."""

    waveform: Float32[np.ndarray, " S"]
    """16 kHz mono in [-1, 1]."""
    segments: tuple[Segment, ...]
    """Sounds of the actor that cover it without gap."""


def spoken(text: str, seconds: float, synthesizer: Synthesizer | None = None) -> SpokenText:
    """The actor's part for an English text, cut to ``seconds``, or said again and again up to there.

    Args:
        text: English.
        seconds: length, > 0.
        synthesizer: gives the voice; None: the default one.

    Raises:
        InputError: no offline synthesizer is installed, or it does not tell the times of its phonemes.
    """
    said = (synthesizer or open_synthesizer("auto")).synthesize(text)
    if said.phonemes is None:
        raise InputError("the synthesizer does not tell the times of its phonemes: use hibari or espeak.")
    turns = max(1, int(np.ceil(seconds / said.seconds)))
    count = round(seconds * SAMPLE_RATE_HZ)
    waveform = np.tile(said.samples, turns)[:count].copy()
    fade = min(count, round(_FADE_S * SAMPLE_RATE_HZ))
    waveform[count - fade :] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    own = [
        Segment(each.phoneme, each.start + turn * said.seconds, min(each.end + turn * said.seconds, seconds))
        for turn in range(turns)
        for each in segments_of(said)
        if each.start + turn * said.seconds < seconds
    ]
    return SpokenText(waveform, tuple(own))


def segments_of(said: Utterance) -> tuple[Segment, ...]:
    """The phonemes of an English utterance as the actor's sounds, pauses between; they cover it without gap."""
    english, made = inventory("en"), list[Segment]()
    for each in without_gaps(said.phonemes or (), said.seconds):
        names = [name for phoneme in english.split(each.label)[0] for name in NEAREST[phoneme].split()] or [PAUSE]
        edges = np.linspace(each.start_s, each.end_s, len(names) + 1)
        made += [Segment(name, float(a), float(b)) for name, a, b in zip(names, edges[:-1], edges[1:], strict=True)]
    return tuple(made)
