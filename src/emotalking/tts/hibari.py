"""English speech by the package ``hibari-tts`` (Apache-2.0), with the times of its words and phonemes.

A voice distilled from Kokoro-82M, inside the package, run by ONNX Runtime on one core. The graph works out how long
every sign of the phonetic text lasts, but does not put it out: an output that names this tensor is added to it here.
"""

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from emotalking.errors import InputError, MissingPackageError
from emotalking.io.audio import SAMPLE_RATE, resample
from emotalking.tts.base import (
    HIBARI_LICENCE,
    TimedLabel,
    Utterance,
    bare_word,
    check_rate,
    choose_voice,
    normalize_text,
)
from emotalking.tts.timing import at_tempo

if TYPE_CHECKING:
    from hibari import Hibari as Network  # pyright: ignore[reportMissingImports]

FRAME_S = 0.025
"""Unit of the durations."""
LAG_S = 0.05
"""The durations run behind the sound by two frames: median over phonemes against a forced alignment by pocketsphinx
.050 to .055 s at rates .8 to 1.3 (``benchmarks/voice.py``)."""
FASTEST = 2.0
"""Rate that the network can speak; beyond, the tempo is changed afterwards."""
SEED = 0
"""Of the noise in the voice."""
QUIET = 10.0 ** (-40 / 20)
"""Amplitude next to a pause that no longer counts as the phoneme, relative to the loud steps of the utterance."""
_STEP = SAMPLE_RATE // 100

_IPA = {
    "A": "eɪ", "I": "aɪ", "O": "oʊ", "Q": "əʊ", "W": "aʊ", "Y": "ɔɪ", "T": "ɾ", "ᵊ": "ə", "ʤ": "dʒ", "ʧ": "tʃ",
    "ʣ": "dz", "ʦ": "ts",
}  # fmt: skip
"""Signs of the package for two sounds, as IPA."""
_RHOTIC = {"ə": "ɚ", "ɜ": "ɝ"}
"""Vowels that are one with the ɹ behind them."""
_STRESS, _MODIFIERS = "ˈˌ", "ː\u0303ʰʲ"
_CLAUSE_ENDS = tuple(",;:—.!?…")
_LONG_NUMBER = re.compile(r"\d{19,}")
"""Said digit by digit: the package has no words for it."""
_DURATIONS = re.compile(rb"\x12[\x01-\x40]([\w/.]+)\x1a[\x01-\x7f][\w/.]+\x22\x04Clip")
"""The graph's only node Clip (output, name, operation): durations of at least one frame."""


class _Sign(NamedTuple):
    """A sign of the phonetic text, and the word that it belongs to."""

    sign: str
    word: int


class Hibari:
    """The voices of hibari-tts: natural English, the same samples for the same text; no network is used.

    Further voices than the package's own are found where the package keeps those that it has downloaded.

    Raises:
        InputError: hibari-tts is not installed.
    """

    def __init__(self) -> None:
        if any(importlib.util.find_spec(name) is None for name in ("hibari", "onnxruntime")):
            raise MissingPackageError(
                "English speech from text needs hibari-tts, which is not installed: pip install hibari-tts==0.2.1."
            )

    def synthesize(
        self, text: str, *, language: str = "en", voice: str | None = None, rate: float | int = 1.0
    ) -> Utterance:
        """See ``Synthesizer.synthesize``."""
        plain, pace = normalize_text(text), check_rate(rate)
        chosen = choose_voice(voice, self.voices(language), language)
        spoken = min(pace, FASTEST)
        utterance = _said(_network(chosen), plain, spoken)
        if not utterance.phonemes:
            raise InputError(f"the voice {chosen} has no sound for {text[:40]!r}: give an English text.")
        made = Utterance(text, language, chosen, utterance.samples, utterance.words, utterance.phonemes, spoken)
        made = replace(made, licences={"hibari-tts (speech)": HIBARI_LICENCE})
        return at_tempo(made, pace / spoken)

    def voices(self, language: str = "en") -> tuple[str, ...]:
        """See ``Synthesizer.voices``: "en" has all that are here, "en-us" and "en-gb" those of the accent."""
        from hibari.voices import VOICES  # pyright: ignore[reportMissingImports]

        accent = language.lower().replace("_", "-")
        if accent not in self.languages():
            raise InputError(f"hibari does not speak '{language}': it speaks en, en-us and en-gb.")
        known = {name: facts for name, facts in VOICES.items() if accent in ("en", facts["language"].lower())}
        found = [name for name in known if _file(name) is not None]
        if not found:
            raise InputError(f"no voice of hibari for '{language}' is on this machine: use espeak.")
        return tuple(sorted(found, key=lambda name: known[name]["british"]))

    def languages(self) -> tuple[str, ...]:
        """English in two accents."""
        return ("en", "en-gb", "en-us")


def _file(voice: str) -> Path | None:
    """The network of a voice, if it is on this machine."""
    from hibari.voices import voice_path  # pyright: ignore[reportMissingImports]

    try:
        return Path(voice_path(voice, download_missing=False))
    except FileNotFoundError:
        return None


@cache
def _network(voice: str) -> "Network":
    """The package's object for a voice; its graph puts the durations out as the last output."""
    from hibari import Hibari as Network  # pyright: ignore[reportMissingImports]

    path = _file(voice)
    assert path is not None
    graph = path.read_bytes()
    names = _DURATIONS.findall(graph)
    if len(names) != 1:
        raise InputError(f"{path} tells no durations: remove it, or install hibari-tts==0.2.1.")
    # Serialised messages of protobuf merge when they are concatenated: model.graph.output += [name].
    output = _field(7, _field(12, _field(1, names[0])))
    try:
        return Network(voice, model=graph + output, threads=1)
    except Exception as error:  # of ONNX Runtime, which has no class of its own for damaged files
        raise InputError(f"{path} cannot be read: install hibari-tts again.") from error


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a protobuf message of less than 128 bytes."""
    return bytes([number << 3 | 2, len(content)]) + content


def _said(network: "Network", text: str, rate: float) -> Utterance:
    """Sound, words and phonemes of a normalised text."""
    from hibari.dsp import SR, synth  # pyright: ignore[reportMissingImports]

    text = _LONG_NUMBER.sub(lambda number: " ".join(number[0]), text)
    generator = np.random.default_rng(SEED)
    pieces: list[np.ndarray] = []
    words: list[str] = []
    timed: list[tuple[int, TimedLabel]] = []
    begin = 0.0
    for signs in _phonetic_pieces(network, text, words):
        ids = network.ids("".join(each.sign for each in signs))
        if len(ids) < 3:
            continue
        inputs = {"ids": np.asarray([ids], np.int64), "speed": np.asarray([rate], np.float32)}
        outputs = [np.asarray(output) for output in network.sess.run(None, inputs)]
        durations = outputs[-1]
        pieces.append(synth(*(part[0] for part in outputs[:6]), rng=generator))
        known = [each for each in signs if each.sign in network.vocab]
        edges = begin - LAG_S + FRAME_S * np.cumsum(durations.reshape(-1).astype(np.float64))
        timed += _phonemes(known, edges)
        begin += len(pieces[-1]) / SR
    samples = resample(np.concatenate([*pieces, np.zeros(0, np.float32)]), SR, SAMPLE_RATE).clip(-1.0, 1.0)
    timed = _audible(timed, samples)
    spans: dict[int, list[TimedLabel]] = {}
    for word, phoneme in timed:
        spans.setdefault(word, []).append(phoneme)
    said = tuple(TimedLabel(words[word], own[0].start_s, own[-1].end_s) for word, own in spans.items())
    return Utterance(text, "en", network.voice, samples, said, tuple(phoneme for _, phoneme in timed), rate)


def _phonetic_pieces(network: "Network", text: str, words: list[str]) -> Iterator[list[_Sign]]:
    """Phonetic signs of each sentence, long ones in parts; ``words`` collects the words as written.

    As ``G2P.__call__`` of the package, which does not tell the words.
    """
    from hibari.g2p.normalize import normalize  # pyright: ignore[reportMissingImports]
    from hibari.tts import MAX_PHONEMES  # pyright: ignore[reportMissingImports]

    for sentence in network.split_sentences(text):
        piece: list[_Sign] = []
        for token in network.g2p.phonemize_tokens(network.g2p.tokenize(normalize(sentence))):
            if token.phonemes and any(sign.isalpha() for sign in token.phonemes):
                words.append(bare_word(token.text))
            signs = [_Sign(sign, len(words) - 1) for sign in (token.phonemes or "") + " " * bool(token.whitespace)]
            while len(piece) + len(signs) > MAX_PHONEMES:
                ends = [place for place, each in enumerate(piece, 1) if each.sign in _CLAUSE_ENDS]
                cut = ends[-1] if ends else len(piece) or MAX_PHONEMES
                if not piece:
                    piece, signs = signs, []
                yield piece[:cut]
                piece = piece[cut:]
            piece += signs
        if piece:
            yield piece


def _phonemes(signs: list[_Sign], edges: Float[np.ndarray, " n"]) -> Iterator[tuple[int, TimedLabel]]:
    """Phonemes with the indices of their words.

    Marks of stress and spaces belong to the phoneme behind them, to which the lips already move; pauses are left out.

    Args:
        signs: those that the network knows.
        edges: ends of the silence before the first sign, and of every sign, seconds.
    """
    waiting: float | None = None
    pending: tuple[int, TimedLabel] | None = None
    for (sign, word), start, end in zip(signs, edges[:-1], edges[1:], strict=False):
        if sign in _MODIFIERS and pending is not None:
            owner, before = pending
            pending = owner, TimedLabel(before.label + sign, before.start_s, float(end))
        elif sign == "ɹ" and waiting is None and pending is not None and pending[1].label in _RHOTIC:
            owner, before = pending
            pending = owner, TimedLabel(_RHOTIC[before.label], before.start_s, float(end))
        elif sign in _STRESS or sign == " ":
            waiting = float(start) if waiting is None else waiting
        elif sign.isalpha():
            if pending is not None:
                yield pending
            pending = word, TimedLabel(_IPA.get(sign, sign), float(start if waiting is None else waiting), float(end))
            waiting = None
        else:
            waiting = None
    if pending is not None:
        yield pending


def _audible(timed: list[tuple[int, TimedLabel]], samples: Float32[np.ndarray, " n"]) -> list[tuple[int, TimedLabel]]:
    """Phonemes next to a pause without their silent part; one that is silent throughout keeps a step."""
    steps = samples[: len(samples) // _STEP * _STEP].reshape(-1, _STEP)
    level = np.sqrt((steps.astype(np.float64) ** 2).mean(1))
    loud = level > QUIET * np.percentile(level, 95) if len(level) else np.zeros(0, bool)
    kept: list[tuple[int, TimedLabel]] = []
    for place, (word, each) in enumerate(timed):
        start, end = max(each.start_s, 0.0), min(each.end_s, len(samples) / SAMPLE_RATE)
        first, last = int(start * 100), int(np.ceil(end * 100))
        heard = np.flatnonzero(loud[first:last])
        if place == 0 or timed[place - 1][1].end_s < each.start_s:
            start = max(start, (first + int(heard[0] if len(heard) else 0)) / 100)
        if place + 1 == len(timed) or each.end_s < timed[place + 1][1].start_s:
            end = min(end, (first + int(heard[-1] if len(heard) else 0) + 1) / 100)
        if end > start:
            kept.append((word, TimedLabel(each.label, start, end)))
    return kept
