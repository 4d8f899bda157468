"""English speech by hibari-tts, and the choice between the offline synthesizers."""

import importlib.util
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from emotalking.errors import InputError, MissingPackageError
from emotalking.io.audio import SAMPLE_RATE
from emotalking.tts import backends
from emotalking.tts import hibari as tts_hibari
from emotalking.tts.backends import Auto, align, open_synthesizer, register
from emotalking.tts.base import Synthesizer, TimedLabel, Utterance, choose_voice
from emotalking.tts.hibari import Hibari
from emotalking.tts.phonemes import coverage, inventory
from emotalking.tts.sentences import curated_speech

needs_hibari = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("hibari", "onnxruntime")),
    reason="needs hibari-tts: pip install hibari-tts==0.2.1",
)
TEXT = 'Bob may visit the café at 25 Park Lane, but "don\'t" hurry. So?'


@pytest.fixture(scope="module")
def hibari() -> Synthesizer:
    return open_synthesizer("hibari")


@needs_hibari
def test_words_and_phonemes_have_their_times(hibari: Synthesizer) -> None:
    said = hibari.synthesize(TEXT)
    assert said.words and said.phonemes and said.voice == "heart"
    assert [word.label for word in said.words] == "Bob may visit the café at 25 Park Lane but don't hurry So".split()
    assert [sound.label for sound in said.phonemes[:5]] == ["b", "ɑ", "b", "m", "eɪ"]
    for timed in (said.words, said.phonemes):
        assert all(0 <= each.start_s < each.end_s <= said.seconds for each in timed)
        assert all(before.end_s <= after.start_s + 1e-9 for before, after in pairwise(timed))
    for sound in said.phonemes:
        assert any(word.start_s <= sound.start_s and sound.end_s <= word.end_s for word in said.words), sound
    assert said.samples.dtype == np.float32 and 0.2 < np.abs(said.samples).max() < 1.0


@needs_hibari
def test_times_agree_with_the_sound(hibari: Synthesizer) -> None:
    said = hibari.synthesize("Pam saw a sad seal. So?")
    assert said.words and said.phonemes
    hiss = {}
    for sound in said.phonemes:
        quarter = (sound.end_s - sound.start_s) / 4
        middle = said.samples[int((sound.start_s + quarter) * SAMPLE_RATE) : int((sound.end_s - quarter) * SAMPLE_RATE)]
        power = np.abs(np.fft.rfft(middle, 8192)) ** 2
        hiss.setdefault(sound.label, []).append(power[2048:].sum() / power.sum())  # above 4 kHz
    assert min(hiss["s"]) > 0.4
    assert max(value for label in ("æ", "i", "ɔ") for value in hiss[label]) < 0.1
    before, after = max(pairwise(said.words), key=lambda pair: pair[1].start_s - pair[0].end_s)
    assert (before.label, after.label) == ("seal", "So")
    for start_s, end_s in ((0.0, said.words[0].start_s - 0.02), (before.end_s + 0.02, after.start_s - 0.02)):
        assert np.abs(said.samples[int(start_s * SAMPLE_RATE) : int(end_s * SAMPLE_RATE)]).max() < 0.02


@needs_hibari
def test_the_same_text_gives_the_same_samples_whatever_was_said_before(hibari: Synthesizer) -> None:
    first = hibari.synthesize("Good morning.")
    hibari.synthesize(TEXT, rate=1.4)
    assert np.array_equal(hibari.synthesize("Good morning.").samples, first.samples)


@needs_hibari
def test_the_rate_holds_beyond_what_the_network_can_speak(hibari: Synthesizer) -> None:
    def spoken_s(rate: float) -> float:
        words = hibari.synthesize(TEXT, rate=rate).words or ()
        return words[-1].end_s - words[0].start_s

    normal = spoken_s(1.0)
    assert spoken_s(0.5) > 1.5 * normal
    assert spoken_s(1.5) < 0.8 * normal
    assert spoken_s(2.5) == pytest.approx(spoken_s(2.0) / 1.25, rel=0.05)


@needs_hibari
@pytest.mark.parametrize("text", ["1" * 700, "hello there my friend " * 60, "a" * 900, "wow😀 http://foo.bar?x=1 <b>&"])
def test_unusual_texts_are_said(hibari: Synthesizer, text: str) -> None:
    said = hibari.synthesize(text)
    assert said.phonemes and np.isfinite(said.samples).all() and said.phonemes[-1].end_s <= said.seconds


@needs_hibari
def test_what_it_cannot_say_is_one_sentence(hibari: Synthesizer, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HIBARI_HOME", str(tmp_path))
    for call, says in (
        (lambda: hibari.synthesize("你好"), "voice heart has no sound for '你好'"),
        (lambda: hibari.synthesize("Guten Tag", language="de"), "hibari does not speak 'de': it speaks en"),
        (lambda: hibari.synthesize("Hello", language="en-gb"), "no voice of hibari for 'en-gb' is on this machine"),
        (lambda: hibari.synthesize("Hello", voice="emma"), "no voice 'emma' for 'en': there are heart"),
    ):
        with pytest.raises(InputError, match=says):
            call()
    (tmp_path / "bf_emma.int8.onnx").write_bytes(b"not a network")
    assert hibari.voices() == ("heart", "emma") and hibari.voices("en_GB") == ("emma",)
    with pytest.raises(InputError, match="bf_emma.int8.onnx tells no durations"):
        hibari.synthesize("Hello", voice="emma")
    heart = tts_hibari._file("heart")
    assert heart is not None
    (tmp_path / "bm_fable.int8.onnx").write_bytes(heart.read_bytes()[:-1000])
    with pytest.raises(InputError, match="bm_fable.int8.onnx cannot be read"):
        hibari.synthesize("Hello", voice="fable")


@needs_hibari
def test_its_curated_set_covers_the_phonemes_as_espeak_ngs(hibari: Synthesizer) -> None:
    covered = coverage(curated_speech(hibari), inventory("en"))
    assert covered.share >= 0.875 and not covered.unknown


@needs_hibari
def test_recordings_get_their_times_by_its_reading(hibari: Synthesizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "Espeak", _missing)
    said = hibari.synthesize("The garden looks lovely after a week of rain.")
    shifted = np.concatenate([np.zeros(8000, np.float32), said.samples])
    timed = align(Utterance(said.text, "en", "mine", shifted, None, None))
    assert said.words and timed.words and len(timed.words) == len(said.words)
    assert all(abs(b.start_s - a.start_s - 0.5) < 0.06 for a, b in zip(said.words, timed.words, strict=True))


def _missing() -> None:
    raise MissingPackageError("espeak-ng is not installed.")


class Speaker:
    """Says nothing, in some languages and voices."""

    def __init__(self, name: str, languages: tuple[str, ...]) -> None:
        self._name, self._languages = name, languages

    def synthesize(
        self, text: str, *, language: str = "en", voice: str | None = None, rate: float | int = 1.0
    ) -> Utterance:
        chosen = choose_voice(voice, self.voices(language), language)
        times = (TimedLabel(text, 0.0, 0.1),)
        return Utterance(text, language, chosen, np.zeros(1600, np.float32), times, times, float(rate))

    def voices(self, language: str = "en") -> tuple[str, ...]:
        if language not in self._languages:
            raise InputError(f"{self._name} does not speak '{language}'.")
        return (f"{self._name}1", f"{self._name}2")

    def languages(self) -> tuple[str, ...]:
        return self._languages


def test_auto_takes_hibari_for_english_and_espeak_for_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "Hibari", lambda: Speaker("h", ("en",)))
    monkeypatch.setattr(backends, "Espeak", lambda: Speaker("e", ("de", "en")))
    both = Auto()
    assert both.voices("en") == ("h1", "h2", "e1", "e2") and both.voices("de") == ("e1", "e2")
    assert both.languages() == ("de", "en")
    assert both.synthesize("x").voice == "h1" and both.synthesize("x", voice="e2").voice == "e2"
    assert both.synthesize("x", language="de").voice == "e1"
    assert {each.voice for each in curated_speech(both)} == {"h1", "h2", "e1", "e2"}
    with pytest.raises(InputError, match="no voice 'zorro' for 'en': there are h1, h2, e1, e2"):
        both.synthesize("x", voice="zorro")
    with pytest.raises(InputError, match="e does not speak 'tlh'"):
        both.voices("tlh")


def test_auto_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "Hibari", lambda: Speaker("h", ("en",)))
    monkeypatch.setattr(backends, "Espeak", _missing)
    assert Auto().voices("en") == ("h1", "h2")
    with pytest.raises(InputError, match="espeak-ng is not installed"):
        Auto().synthesize("x", language="de")
    monkeypatch.setattr(backends, "Hibari", Hibari)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match="hibari-tts, which is not installed: pip install hibari-tts==0.2.1"):
        Auto()


def test_a_synthesizer_of_ones_own_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_SYNTHESIZERS", dict(backends._SYNTHESIZERS))
    register("mine", lambda: Speaker("m", ("en",)))
    assert open_synthesizer("mine").synthesize("x").voice == "m1"
    with pytest.raises(ValueError, match="'mine' already"):
        register("mine", lambda: Speaker("m", ("en",)))
    with pytest.raises(InputError, match="'nobody': use auto, hibari, espeak, gtts, mine, or a folder"):
        open_synthesizer("nobody")
