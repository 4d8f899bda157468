"""Speech from text: espeak-ng, folders of recordings, gTTS behind a stand-in, times and their files."""

import importlib.util
import io
import sys
import types
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emotalking.errors import InputError
from emotalking.io.audio import SAMPLE_RATE, save_wav
from emotalking.tts import espeak as tts_espeak
from emotalking.tts.backends import open_synthesizer
from emotalking.tts.base import Synthesizer, TimedLabel, Utterance, normalize_text
from emotalking.tts.sentences import LANGUAGES, curated, curated_speech
from emotalking.tts.timing import at_tempo, change_tempo, read_times, warp_path, warped, without_gaps, write_times

needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="needs espeak-ng: pip install 'emotalking[espeak]'"
)
TEXT = "Bob may visit the café at 25 Park Lane."


@pytest.fixture(scope="module")
def espeak() -> Synthesizer:
    return open_synthesizer("espeak")


def check_times(utterance: Utterance) -> None:
    """Words and phonemes in order, inside the recording, and every phoneme inside a word."""
    assert utterance.words and utterance.phonemes
    for timed in (utterance.words, utterance.phonemes):
        assert all(0 <= each.start_s < each.end_s <= utterance.seconds for each in timed)
        assert all(before.end_s <= after.start_s + 1e-9 for before, after in pairwise(timed))
    for sound in utterance.phonemes:
        assert any(word.start_s <= sound.start_s and sound.end_s <= word.end_s for word in utterance.words), sound


@needs_espeak
def test_words_and_phonemes_have_their_times(espeak: Synthesizer) -> None:
    said = espeak.synthesize(TEXT, voice="m3")
    check_times(said)
    assert said.words and [word.label for word in said.words] == "Bob may visit the café at 25 Park Lane".split()
    assert said.phonemes and [sound.label for sound in said.phonemes[:3]] == ["b", "ɑː", "b"]
    assert said.samples.dtype == np.float32 and 2.0 < said.seconds < 5.0
    assert 0.05 < np.abs(said.samples).max() <= 1.0


@needs_espeak
def test_times_agree_with_the_sound(espeak: Synthesizer) -> None:
    said = espeak.synthesize("Pam saw a sad seal. So?", voice="m3")
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
def test_every_curated_set_is_said_whole(espeak: Synthesizer, language: str) -> None:
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
    with pytest.raises(InputError, match="no curated set for 'tlh': there are en, de, fr, es, zh"):
        curated("tlh")


@needs_espeak
def test_accents_voices_and_rates_differ(espeak: Synthesizer) -> None:
    plain = espeak.synthesize(TEXT, voice="m3")
    assert not np.array_equal(espeak.synthesize(TEXT, voice="f2").samples, plain.samples)
    again = espeak.synthesize(TEXT, voice="m3")
    assert abs(again.seconds - plain.seconds) < 0.03  # measured: 0.013, the phase of the voice goes on
    assert (
        again.words
        and plain.words
        and max(abs(a.end_s - b.end_s) for a, b in zip(again.words, plain.words, strict=True)) < 0.03
    )
    sounds = [
        [sound.label for sound in espeak.synthesize("Bath water", language=tag).phonemes or ()]
        for tag in ("en", "en-gb")
    ]
    assert sounds[0] != sounds[1]
    slow, fast = (espeak.synthesize(TEXT, voice="m3", rate=rate).seconds for rate in (0.5, 2.5))
    assert slow > 1.5 * plain.seconds > 3 * fast


@needs_espeak
@pytest.mark.parametrize("rate", [0.0, -1.0, 0.49, 2.51, float("nan"), float("inf")])
def test_rates_beyond_the_limits_are_refused(espeak: Synthesizer, rate: float) -> None:
    with pytest.raises(InputError, match="give 0.5 .slow. to 2.5 .fast."):
        espeak.synthesize(TEXT, rate=rate)


@needs_espeak
def test_what_is_not_there_is_named(espeak: Synthesizer) -> None:
    with pytest.raises(InputError, match="no voice 'zorro' for 'en': there are m3, f2"):
        espeak.synthesize(TEXT, voice="zorro")
    with pytest.raises(InputError, match="does not speak 'tlh': it speaks en, en-gb, de, fr, es, zh and [0-9]+ more"):
        espeak.synthesize(TEXT, language="tlh")
    with pytest.raises(
        InputError, match="no speech synthesizer 'festival': use auto, hibari, espeak, gtts, or a folder"
    ):
        open_synthesizer("festival")


def test_a_missing_library_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tts_espeak.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(tts_espeak.ctypes.util, "find_library", lambda _: None)
    tts_espeak._engine.cache_clear()
    with pytest.raises(InputError, match=r"pip install 'emotalking\[espeak\]'"):
        open_synthesizer("espeak")
    tts_espeak._engine.cache_clear()


@needs_espeak
@pytest.mark.parametrize("text", ["", "   \n", "... !?", "\0\0", "“—”"])
def test_nothing_to_say(espeak: Synthesizer, text: str) -> None:
    with pytest.raises(InputError, match="has no words"):
        espeak.synthesize(text)


@needs_espeak
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Bob\0 may\x07\tgo", ["Bob", "may", "go"]),
        ("😀 Bob 🎉", ["😀", "Bob", "🎉"]),
        ("\ud800Bob", ["Bob"]),
        ("a < b & [[k]] \\n %s", None),
        ("Tom’s “café”", ["Tom's", "café"]),
    ],
)
def test_odd_signs_do_no_harm(espeak: Synthesizer, text: str, words: list[str] | None) -> None:
    said = espeak.synthesize(text)
    check_times(said)
    assert words is None or [word.label for word in said.words or ()] == words


@needs_espeak
def test_markup_is_read_and_not_obeyed(espeak: Synthesizer) -> None:
    said = espeak.synthesize("Bob <break time='9s'/> may")
    assert said.seconds < 6.0
    spoken = {"".join(sign for sign in word.label if sign.isalnum()) for word in said.words or ()}
    assert {"Bob", "break", "may"} <= spoken


@needs_espeak
def test_ten_thousand_words(espeak: Synthesizer) -> None:
    said = espeak.synthesize("so " * 10_000, rate=2.5)
    assert said.words and said.phonemes and len(said.words) == 10_000 and len(said.phonemes) == 20_000
    assert said.words[-1].end_s > 600
    with pytest.raises(InputError, match="at most 100000 at once"):
        normalize_text("x" * 100_001)


def utterance(samples: np.ndarray, text: str = "a b") -> Utterance:
    words = (TimedLabel("a", 0.1, 0.3), TimedLabel("b", 0.5, 0.7))
    return Utterance(
        text, "en", "m3", samples.astype(np.float32), words, (TimedLabel("ɐ", 0.1, 0.3), TimedLabel("b", 0.5, 0.7))
    )


def test_times_go_to_json_and_back(tmp_path: Path) -> None:
    said = utterance(np.zeros(16000))
    write_times(tmp_path / "x.json", said)
    again = read_times(tmp_path / "x.json", said.samples)
    assert (again.words, again.phonemes, again.text, again.rate) == (said.words, said.phonemes, "a b", 1.0)
    with pytest.raises(InputError, match="beyond the sound of 0.25 s"):
        read_times(tmp_path / "x.json", said.samples[:4000])
    for bad in ("", "[]", "{}", '{"words": [[1]], "phonemes": []}', "[" * 100_000):
        (tmp_path / "y.json").write_text(bad)
        with pytest.raises(InputError, match="does not hold the times"):
            read_times(tmp_path / "y.json", said.samples)
    write_times(tmp_path / "half.json", utterance(np.zeros(16000), "\ud800 b"))
    assert read_times(tmp_path / "half.json", said.samples).text == "? b"
    with pytest.raises(InputError, match=r"\.json or \.TextGrid"):
        write_times(tmp_path / "x.srt", said)
    with pytest.raises(InputError, match="not known"):
        write_times(tmp_path / "z.json", Utterance("a", "en", "m3", said.samples, None, None))
    assert not (tmp_path / "z.json").exists()


def test_a_text_grid_covers_the_time_without_gaps(tmp_path: Path) -> None:
    write_times(tmp_path / "x.TextGrid", utterance(np.zeros(16000), 'a "b"'))
    lines = [line.strip() for line in (tmp_path / "x.TextGrid").read_text().splitlines()]
    assert lines[:2] == ['File type = "ooTextFile"', 'Object class = "TextGrid"']
    assert lines.count("intervals: size = 5") == 2
    edges = [(a.start_s, a.end_s) for a in without_gaps(utterance(np.zeros(16000)).words or (), 1.0)]
    assert edges == [(0.0, 0.1), (0.1, 0.3), (0.3, 0.5), (0.5, 0.7), (0.7, 1.0)]
    assert [each.label for each in without_gaps((), 2.0)] == [""]


@pytest.mark.parametrize("rate", [0.5, 0.8, 1.25, 2.5])
def test_tempo_keeps_the_pitch(rate: float) -> None:
    tone = (0.3 * np.sin(2 * np.pi * 220 * np.arange(32000) / 16000)).astype(np.float32)
    made = change_tempo(tone, rate)
    assert len(made) / SAMPLE_RATE == pytest.approx(2.0 / rate, abs=0.06)  # the last window is cut or filled
    peak = np.abs(np.fft.rfft(made)).argmax() * SAMPLE_RATE / len(made)
    assert peak == pytest.approx(220, rel=0.01)
    moved = at_tempo(utterance(tone), rate)
    assert moved.words and moved.words[1].start_s == pytest.approx(0.5 / rate) and moved.rate == rate


def test_the_warp_follows_a_known_stretch() -> None:
    theirs = np.random.default_rng(0).normal(size=(39, 8)).astype(np.float32)
    ours = np.concatenate([theirs[:10].repeat(2, 0), theirs[10:30], theirs[30::2]])
    assert list(warp_path(ours, theirs)) == [*np.arange(10).repeat(2), *range(10, 30), *range(30, 39, 2)]


@needs_espeak
def test_alignment_finds_another_voice_at_another_rate(espeak: Synthesizer) -> None:
    text = "Better late than never, they say."
    reading, truth = espeak.synthesize(text, voice="m3"), espeak.synthesize(text, voice="f2", rate=0.8)
    late = np.concatenate([np.zeros(8000, np.float32), truth.samples])
    found = warped(reading, Utterance(text, "en", "x", late, None, None))
    check_times(found)
    errors = [abs(a.start_s - b.start_s - 0.5) for a, b in zip(found.words or (), truth.words or (), strict=True)]
    assert np.median(errors) < 0.03 and max(errors) < 0.2  # measured: 0.01, and 0.15 for the weak th behind the pause
    silent = Utterance(text, "en", "x", np.zeros(16000, np.float32), None, None)
    assert warped(reading, silent) is silent
    short = Utterance(text, "en", "x", truth.samples[4000:8000], None, None)
    assert warped(reading, short) is short


@needs_espeak
def test_a_folder_says_what_it_holds(espeak: Synthesizer, tmp_path: Path) -> None:
    said = espeak.synthesize("Did you eat yet?", voice="f2")
    save_wav(tmp_path / "b.wav", said.samples)
    (tmp_path / "b.txt").write_text("Did you eat yet?\n")
    save_wav(tmp_path / "a.wav", said.samples)  # without words
    folder = open_synthesizer(tmp_path)
    whole = list(curated_speech(folder))
    assert [each.text for each in whole] == ["", "Did you eat yet?"] and whole[0].words is None
    check_times(whole[1])
    found = folder.synthesize("did you eat, yet")
    assert found.words and found.text == whole[1].text and np.array_equal(found.samples, whole[1].samples)
    assert folder.synthesize("a", rate=2).seconds == pytest.approx(said.seconds / 2, abs=0.06)
    with pytest.raises(InputError, match="no recording in .* has the words 'No': .*a, b"):
        folder.synthesize("No")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match="not UTF-8"):
        list(curated_speech(folder))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="has no sound file"):
        open_synthesizer(tmp_path / "empty")


def fake_gtts(monkeypatch: pytest.MonkeyPatch, reachable: bool) -> list[dict]:
    """A stand-in for the package ``gtts``: a second of tone, or no network. Returns what it is asked."""
    package, tts, lang = (types.ModuleType(name) for name in ("gtts", "gtts.tts", "gtts.lang"))
    package.__spec__ = importlib.util.spec_from_loader("gtts", None)
    asked: list[dict] = []

    class Failure(Exception):
        pass

    class Voice:
        def __init__(self, text: str, **options: object) -> None:
            asked.append({"text": text, **options})

        def save(self, path: str) -> None:
            if not reachable:
                raise Failure("Failed to connect")
            tone = 0.2 * np.sin(2 * np.pi * 200 * np.arange(24000) / 24000)
            file = io.BytesIO()
            soundfile.write(file, tone, 24000, format="MP3")
            Path(path).write_bytes(file.getvalue())

    vars(package).update(gTTS=Voice)
    vars(tts).update(gTTSError=Failure)
    vars(lang).update(tts_langs=lambda: {"en": "English", "zh-CN": "Chinese"})
    for module in (package, tts, lang):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return asked


def test_gtts_asks_for_language_and_accent(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = fake_gtts(monkeypatch, reachable=True)
    gtts = open_synthesizer("gtts")
    assert gtts.synthesize("Hello", voice="uk", rate=2).seconds == pytest.approx(0.5, abs=0.1)
    gtts.synthesize("你好", language="zh")
    assert [(each["lang"], each["tld"]) for each in asked] == [("en", "co.uk"), ("zh-CN", "com")]
    with pytest.raises(InputError, match="does not speak 'tlh': it speaks en, zh-CN"):
        gtts.synthesize("Hello", language="tlh")
    with pytest.raises(InputError, match="no voice 'm3' for 'en': there are us, uk"):
        gtts.synthesize("Hello", voice="m3")


def test_gtts_without_a_network_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_gtts(monkeypatch, reachable=False)
    with pytest.raises(InputError, match="could not reach its web service .it needs a network."):
        open_synthesizer("gtts").synthesize("Hello")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'emotalking\[gtts\]'"):
        open_synthesizer("gtts")
