"""Speech from text: espeak-ng, folders of recordings, gTTS behind a stand-in, times and their files."""

import importlib.util
from itertools import pairwise

import numpy as np
import pytest

from emotalking.errors import UserError
from emotalking.speech import tts_espeak
from emotalking.speech.audio import SAMPLE_RATE
from emotalking.speech.sentences import LANGUAGES, curated, curated_speech
from emotalking.speech.tts import Speaker, Utterance, open_speaker

needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="needs espeak-ng: pip install 'emotalking[espeak]'"
)
TEXT = "Bob may visit the café at 25 Park Lane."


@pytest.fixture(scope="module")
def espeak() -> Speaker:
    return open_speaker("espeak")


def check_times(utterance: Utterance) -> None:
    """Words and sounds in order, inside the sound, and every sound inside a word."""
    assert utterance.words and utterance.phonemes
    for timed in (utterance.words, utterance.phonemes):
        assert all(0 <= each.start_s < each.end_s <= utterance.seconds for each in timed)
        assert all(before.end_s <= after.start_s + 1e-9 for before, after in pairwise(timed))
    for sound in utterance.phonemes:
        assert any(word.start_s <= sound.start_s and sound.end_s <= word.end_s for word in utterance.words), sound


@needs_espeak
def test_words_and_sounds_have_their_times(espeak: Speaker) -> None:
    said = espeak.say(TEXT, voice="m3")
    check_times(said)
    assert said.words and [word.label for word in said.words] == "Bob may visit the café at 25 Park Lane".split()
    assert said.phonemes and [sound.label for sound in said.phonemes[:3]] == ["b", "ɑː", "b"]
    assert said.samples.dtype == np.float32 and 2.0 < said.seconds < 5.0
    assert 0.05 < np.abs(said.samples).max() <= 1.0


@needs_espeak
def test_times_agree_with_the_sound(espeak: Speaker) -> None:
    said = espeak.say("Pam saw a sad seal. So?", voice="m3")
    spectrum = {}
    for sound in said.phonemes or ():
        piece = said.samples[int(sound.start_s * SAMPLE_RATE) : int(sound.end_s * SAMPLE_RATE)]
        power = np.abs(np.fft.rfft(piece, 8192)) ** 2
        spectrum.setdefault(sound.label, []).append(power[2048:].sum() / power.sum())  # above 4 kHz
    assert min(spectrum["s"]) > 0.5  # hiss
    assert max(value for label in ("æ", "iː", "ɔː") for value in spectrum[label]) < 0.2
    pause = max(pairwise(said.words or ()), key=lambda pair: pair[1].start_s - pair[0].end_s)
    assert (pause[0].label, pause[1].label) == ("seal", "So")
    silent = said.samples[int((pause[0].end_s + 0.08) * SAMPLE_RATE) : int(pause[1].start_s * SAMPLE_RATE)]
    assert np.abs(silent).max() < 0.01


@needs_espeak
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_curated_set_is_said_whole(espeak: Speaker, language: str) -> None:
    sentences = curated(language)
    made = list(curated_speech(espeak, language))
    assert len(sentences) == len(set(sentences)) == len(made) == 10
    assert len({each.voice for each in made}) == 6 and len({each.rate for each in made}) == 3
    for sentence, said in zip(sentences, made, strict=True):
        check_times(said)
        letters = "".join(sign for word in said.words or () for sign in word.label if sign.isalnum())
        assert letters == "".join(sign for sign in sentence if sign.isalnum())


def test_the_english_set_is_the_papers() -> None:
    assert curated("en-gb")[0] == "The quick brown fox jumps over the lazy dog."
    assert curated()[9] == "We can meet at the café if you’d like."
    with pytest.raises(UserError, match="no curated set for 'tlh': there are en, de, fr, es, zh"):
        curated("tlh")


@needs_espeak
def test_accents_voices_and_rates_differ(espeak: Speaker) -> None:
    plain = espeak.say(TEXT, voice="m3")
    assert not np.array_equal(espeak.say(TEXT, voice="f2").samples, plain.samples)
    again = espeak.say(TEXT, voice="m3")
    assert abs(again.seconds - plain.seconds) < 0.03  # measured: 0.013, the phase of the voice goes on
    assert (
        again.words
        and plain.words
        and max(abs(a.end_s - b.end_s) for a, b in zip(again.words, plain.words, strict=True)) < 0.03
    )
    sounds = [
        [sound.label for sound in espeak.say("Bath water", language=tag).phonemes or ()] for tag in ("en", "en-gb")
    ]
    assert sounds[0] != sounds[1]
    slow, fast = (espeak.say(TEXT, voice="m3", rate=rate).seconds for rate in (0.5, 2.5))
    assert slow > 1.5 * plain.seconds > 3 * fast


@needs_espeak
@pytest.mark.parametrize("rate", [0.0, -1.0, 0.49, 2.51, float("nan"), float("inf")])
def test_rates_beyond_the_limits_are_refused(espeak: Speaker, rate: float) -> None:
    with pytest.raises(UserError, match="give 0.5 .slow. to 2.5 .fast."):
        espeak.say(TEXT, rate=rate)


@needs_espeak
def test_what_is_not_there_is_named(espeak: Speaker) -> None:
    with pytest.raises(UserError, match="no voice 'zorro' for 'en': there are m3, f2"):
        espeak.say(TEXT, voice="zorro")
    with pytest.raises(UserError, match="does not speak 'tlh': it speaks en, en-gb, de, fr, es, zh and [0-9]+ more"):
        espeak.say(TEXT, language="tlh")
    with pytest.raises(UserError, match="no speaker 'festival': use espeak, gtts, or a folder"):
        open_speaker("festival")


def test_a_missing_library_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tts_espeak.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(tts_espeak.ctypes.util, "find_library", lambda _: None)
    tts_espeak._engine.cache_clear()
    with pytest.raises(UserError, match=r"pip install 'emotalking\[espeak\]'"):
        open_speaker("espeak")
    tts_espeak._engine.cache_clear()
