"""Offline speech by espeak-ng, with the times of its words and phonemes.

The library is GPLv3 and stays outside: it is found at run time, from the package ``espeakng-loader`` (the extra
``espeak``) or from the system, and called through its C interface (``speak_lib.h``).
"""

import ctypes
import ctypes.util
import importlib.util
import re
import threading
from bisect import bisect_right
from collections.abc import Iterator
from functools import cache
from itertools import groupby
from typing import Any

import numpy as np
import soxr
from jaxtyping import Float32

from emotalking.errors import InputError, MissingPackageError
from emotalking.io.audio import SAMPLE_RATE
from emotalking.tts.base import (
    ESPEAK_LICENCE,
    TimedLabel,
    Utterance,
    bare_word,
    check_rate,
    choose_voice,
    normalize_text,
)

NORMAL_WORDS_PER_MINUTE = 175
VOICE_TAGS = {"en": "en-us", "zh": "cmn"}
"""Tags that espeak-ng would take for another variety than most people mean; the paper transcribes American English."""
VOICES = ("m3", "f2", "m7", "f5", "m1", "f4", "m2", "f3", "m5", "f1", "m4", "m6", "m8")
"""Plain voices, the most different ones first."""
_NOVELTIES = ("robo", "Robo", "klatt", "whisper", "croak", "Demonic", "announcer", "fast", "Tweaky")
"""Parts of the names of voices that are no person's."""

_SYNCHRONOUS = 2
_PHONEME_EVENTS = 1
_IPA = 2
_DO_NOT_EXIT = 0x8000
_UTF8, _END_PAUSE = 1, 0x1000
_RATE = 1
_WORD, _PHONEME = 1, 7
_IPA_BYTES = 8


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_void_p), ("string", ctypes.c_char * _IPA_BYTES)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


class _Voice(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_void_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("internal", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class Espeak:
    """espeak-ng: about a hundred languages; ``language`` chooses the accent ("en-gb"), ``voice`` the timbre.

    The same calls in the same order give the same samples in every process; repeated, a text differs by some
    milliseconds, since the library's glottis state continues.

    Raises:
        InputError: espeak-ng is not installed.
    """

    def __init__(self) -> None:
        self._engine = _engine()

    def synthesize(
        self, text: str, *, language: str = "en", voice: str | None = None, rate: float | int = 1.0
    ) -> Utterance:
        """See ``Synthesizer.synthesize``; 16 kHz samples are resampled from the 22.05 kHz that espeak-ng makes."""
        plain, pace = normalize_text(text), check_rate(rate)
        chosen = choose_voice(voice, self.voices(language), language)
        made = self._engine.synthesize(plain, f"{self._engine.languages[self._tag(language)]}+{chosen}", pace)
        words, phonemes = _timeline(plain, made)
        if not phonemes:
            raise InputError(
                f"espeak-ng knows no phonemes for {text[:40]!r} in '{language}': give another text or language."
            )
        licences = {"espeak-ng (speech)": ESPEAK_LICENCE}
        return Utterance(text, language, chosen, made.samples, words, phonemes, pace, "by rules", licences)

    def voices(self, language: str = "en") -> tuple[str, ...]:
        """See ``Synthesizer.voices``: every voice speaks every language."""
        self._tag(language)
        return self._engine.voices

    def languages(self) -> tuple[str, ...]:
        """Values of ``language`` in addition to "zh"."""
        return tuple(self._engine.languages)

    def _tag(self, language: str) -> str:
        """espeak-ng's own tag of a language."""
        tag = VOICE_TAGS.get(language.lower(), language.lower().replace("_", "-"))
        if tag not in self._engine.languages:
            raise InputError(
                f"espeak-ng does not speak '{language}': it speaks en, en-gb, de, fr, es, zh and "
                f"{len(self._engine.languages) - 5} more."
            )
        return tag


class _Output:
    """Samples and events of one call of the library, piece by piece."""

    def __init__(self, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self.length = 0
        """Samples at ``rate_hz``."""
        self.events: list[tuple[int, int, int, str]] = []
        """Kind, character of the text (from 0), sample, IPA."""
        self._resampler = soxr.ResampleStream(rate_hz, SAMPLE_RATE, 1, dtype="float32")
        self._buffer = bytearray()

    def append(self, wave: np.ndarray) -> None:
        self.length += len(wave)
        self._buffer += self._resampler.resample_chunk(wave.astype(np.float32) / 32768.0).tobytes()

    def finish(self) -> None:
        self._buffer += self._resampler.resample_chunk(np.zeros(0, np.float32), last=True).tobytes()

    @property
    def samples(self) -> Float32[np.ndarray, " n"]:
        return np.clip(np.frombuffer(self._buffer, np.float32), -1.0, 1.0)


class _Engine:
    """The loaded library: one in a process, one sentence at a time."""

    def __init__(self, library: ctypes.CDLL, data: str | None) -> None:
        self._library = library
        self._lock = threading.Lock()
        self._now: _Output | None = None
        self._failure: Exception | None = None
        self._callback = _Callback(self._receive)  # kept, or it would be freed under the library's feet
        options = _PHONEME_EVENTS | _IPA | _DO_NOT_EXIT
        self._rate_hz = library.espeak_Initialize(_SYNCHRONOUS, 0, None if data is None else data.encode(), options)
        if self._rate_hz <= 0:
            raise MissingPackageError(
                "espeak-ng is there but its language data is not: pip install 'emotalking[espeak]'."
            )
        library.espeak_SetSynthCallback(self._callback)
        library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
        best: dict[str, tuple[int, str]] = {}
        for voice in self._list(None):
            for priority, tag in _tags(voice):
                best[tag.lower()] = min(best.get(tag.lower(), (256, "")), (priority, voice.identifier.decode()))
        self.languages = {tag: best[tag][1] for tag in sorted(best)}
        """Tag to espeak-ng's file of the language."""
        found = [voice.identifier.decode().removeprefix("!v/") for voice in self._list(b"variant")]
        own = [name for name in VOICES if name in found]
        rest = (name for name in found if name not in VOICES and not any(part in name for part in _NOVELTIES))
        self.voices = (*own, *sorted(rest, key=str.lower))

    def synthesize(self, text: str, voice: str, rate: float) -> _Output:
        """Sound and events of one text."""
        with self._lock:
            if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
                raise InputError(f"espeak-ng cannot load its voice '{voice}': reinstall it.")
            self._library.espeak_SetParameter(_RATE, round(rate * NORMAL_WORDS_PER_MINUTE), 0)
            self._now, self._failure = _Output(self._rate_hz), None
            data = text.encode("utf-8", "ignore")
            status = self._library.espeak_Synth(
                data, ctypes.c_size_t(len(data) + 1), 0, 1, 0, _UTF8 | _END_PAUSE, None, None
            )
            made, self._now = self._now, None
            if self._failure is not None:
                raise self._failure
            if status != 0:
                raise RuntimeError(f"espeak_Synth failed with status {status}")
            made.finish()
            return made

    def _receive(self, wave: Any, count: int, events: Any) -> int:
        """Called by the library for every piece; an exception must not cross it."""
        try:
            assert self._now is not None
            if wave and count:
                self._now.append(np.ctypeslib.as_array(wave, (count,)))
            index = 0
            while events[index].type:
                event = events[index]
                if event.type in (_WORD, _PHONEME):
                    label = _label(event) if event.type == _PHONEME else ""
                    self._now.events.append((event.type, max(event.text_position - 1, 0), event.sample, label))
                index += 1
        except Exception as error:
            self._failure = error
            return 1
        return 0

    def _list(self, kind: bytes | None) -> Iterator[_Voice]:
        """All voices, or those of a kind ("variant": timbres)."""
        text = ctypes.create_string_buffer(kind) if kind else None
        wanted = _Voice(languages=ctypes.cast(text, ctypes.c_void_p)) if text else None
        listed = self._library.espeak_ListVoices(ctypes.byref(wanted) if wanted else None)
        index = 0
        while listed[index]:
            yield listed[index].contents
            index += 1


@cache
def _engine() -> _Engine:
    """The library, from the package or the system."""
    if importlib.util.find_spec("espeakng_loader") is not None:
        import espeakng_loader

        path, data = espeakng_loader.get_library_path(), espeakng_loader.get_data_path()
    else:
        path, data = ctypes.util.find_library("espeak-ng"), None
    if path is None:
        raise MissingPackageError(
            "speech from text needs espeak-ng, which is not installed: pip install 'emotalking[espeak]', "
            "or choose another synthesizer (gtts, or a folder of sound files)."
        )
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise InputError(f"espeak-ng cannot be loaded ({error}): reinstall it.") from error
    return _Engine(library, data)


def _tags(voice: _Voice) -> Iterator[tuple[int, str]]:
    """Languages of a voice: pairs of a priority byte (low is better) and a string, ended by a zero byte."""
    place = voice.languages
    while (priority := ctypes.string_at(place, 1)) != b"\0":
        tag = ctypes.string_at(place + 1)
        yield priority[0], tag.decode()
        place += len(tag) + 2


_SPELLINGS = (("o-", "ɤ"), (r"s\.", "ʂ"), (r"i[.\u032a]", "ɨ"), (r"nɡ$", "ŋ"), (r"(?<=[ptkɕʂs])h$", "ʰ"), ("-$", ""))
"""Names of espeak-ng's that are not quite IPA."""


def _label(event: _Event) -> str:
    """IPA of a phoneme event without stress; empty for a pause."""
    raw = ctypes.string_at(ctypes.addressof(event) + _Event.id.offset, _IPA_BYTES).split(b"\0")[0]
    label = raw.decode("utf-8", "ignore").strip("ˈˌ' ")
    if label.startswith("("):  # "(en)": from here on another language's phonemes
        return ""
    for own, ipa in _SPELLINGS:
        label = re.sub(own, ipa, label)
    return label


_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]|[^\s\u3040-\u30ff\u3400-\u9fff]+")
"""A written word: text between spaces, or one character of Chinese or Japanese."""


_MELTED = 1 / 3
"""Share of a vowel that goes to the phoneme behind it where espeak-ng makes both in one piece ("mall") and names no
time for the second."""


def _timeline(text: str, made: _Output) -> tuple[tuple[TimedLabel, ...], tuple[TimedLabel, ...]]:
    """Words and phonemes of the events. A word that is read as several ("25") is one; two read as one are one."""
    starts = [match.start() for match in _TOKEN.finditer(text)]
    heads: list[int] = []  # of each word: where it begins in the text
    phonemes: list[tuple[int, TimedLabel]] = []  # each with the index of its word
    events = made.events
    times = np.maximum.accumulate([0, *(event[2] for event in events)])[1:].clip(max=made.length) / made.rate_hz
    ends = _ends([kind == _PHONEME for kind, *_ in events], times, made.length / made.rate_hz)
    for (kind, place, _, label), start, end in zip(events, times, ends, strict=True):
        if kind == _WORD:
            head = starts[max(bisect_right(starts, place) - 1, 0)]
            if not heads or head > heads[-1]:
                heads.append(head)
        elif label:
            heads = heads or [0]
            if end <= start and phonemes and phonemes[-1][1].end_s == start:
                word, before = phonemes[-1]
                start = before.end_s - _MELTED * (before.end_s - before.start_s)
                phonemes[-1] = (word, TimedLabel(before.label, before.start_s, float(start)))
            if end > start:
                phonemes.append((len(heads) - 1, TimedLabel(label, float(start), float(end))))
    words = []
    for index, group in groupby(phonemes, key=lambda each: each[0]):
        own = [phoneme for _, phoneme in group]
        stop = heads[index + 1] if index + 1 < len(heads) else len(text)
        words.append(TimedLabel(bare_word(text[heads[index] : stop]), own[0].start_s, own[-1].end_s))
    return tuple(words), tuple(phoneme for _, phoneme in phonemes)


def _ends(counts: list[bool], times: np.ndarray, last: float) -> list[float]:
    """For each event the time of the next one that counts."""
    ends, following = [], last
    for count, time in zip(reversed(counts), reversed(times), strict=True):
        ends.append(following)
        following = float(time) if count else following
    return ends[::-1]
