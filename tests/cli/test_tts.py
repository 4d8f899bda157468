"""``emotalking tts``, its relatives, and ``emotalking render --text``."""

import importlib.util
import json
from pathlib import Path

import av
import numpy as np
import pytest

from emotalking import api
from emotalking.cli.main import main
from emotalking.io.audio import load_audio
from emotalking.tts.backends import open_synthesizer

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="needs espeak-ng: pip install 'emotalking[espeak]'"
)


def test_a_text_becomes_sound_and_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wav, times = tmp_path / "x.wav", tmp_path / "x.json"
    assert (
        main(["tts", "Guten Morgen", "--language", "de", "--rate", "0.8", "-o", str(wav), "--times", str(times)]) == 0
    )
    facts = json.loads(times.read_text())
    assert [word["label"] for word in facts["words"]] == ["Guten", "Morgen"]
    assert len(load_audio(wav)) == round(facts["seconds"] * 16000) and facts["rate"] == 0.8
    assert "2 words" in capsys.readouterr().err


def test_the_curated_set_becomes_a_folder_that_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "tts-sentences",
        "--language",
        "en",
        "-o",
        str(tmp_path),
        "--voices",
        "m3,f2",
        "--rates",
        "1,1.2",
        "--takes",
        "2",
    ]
    assert main(words) == 0
    names = sorted(path.name for path in tmp_path.glob("*.wav"))
    assert len(names) == 20 == len(list(tmp_path.glob("*.json"))) and names[:2] == ["01_m3_100.wav", "02_f2_120.wav"]
    held = open_synthesizer(tmp_path).synthesize("Next stop is Central Park.")
    assert held.words and [word.label for word in held.words] == "Next stop is Central Park".split()
    assert "20 sentences" in capsys.readouterr().err


def test_coverage_and_voices_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "coverage.html"
    assert main(["tts-coverage", "--language", "es", "--page", str(page)]) == 0
    assert "26 of 26 phonemes of Spanish (Castilian) (100%); none is missing." in capsys.readouterr().out
    assert page.read_text().count("<svg") == 2
    assert main(["tts-voices", "--language", "fr"]) == 0
    listed = capsys.readouterr().out
    assert listed.startswith("voices for fr: m3 f2") and " en-us " in listed


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["tts"], "required: text"),
        (["tts", "Hello"], "with -o"),
        (["tts", "Hello", "-o", "x.mp3"], "end in .wav"),
        (["tts", "Hello", "-o", "x.wav", "--times", "x.srt"], ".json or .TextGrid"),
        (["tts", "Hello", "-o", "x.wav", "--rate", "quick"], "argument --rate: expected a number, got 'quick'"),
        (["tts", "Hello", "-o", "x.wav", "--rate", "9"], "give 0.5 (slow) to 2.5 (fast)"),
        (["tts", "Hello", "-o", "x.wav", "--language", "tlh"], "does not speak 'tlh'"),
        (["tts", "Hello", "-o", "x.wav", "--voice", "zorro"], "no voice 'zorro'"),
        (["tts", "Hello", "-o", "x.wav", "--speaker", "nobody"], "no speech synthesizer 'nobody'"),
        (["tts", "Hello", "-o", "x.wav", "--takes", "2"], "unrecognized arguments: --takes"),
        (["tts-sentences"], "required: -o/--output"),
        (["tts-sentences", "-o", "FILE"], "give a folder"),
        (["tts-sentences", "-o", "d", "--takes", "0"], "at least 1"),
        (["tts-sentences", "-o", "d", "--rates", "1,quick"], "is not a number, or several with commas"),
        (["tts-sentences", "--language", "it", "-o", "d"], "no curated set for 'it'"),
        (["tts-coverage", "--language", "it"], "no phoneme inventory for 'it'"),
    ],
)
def test_complaints_are_one_sentence(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([__file__ if word == "FILE" else word for word in words]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_render_speaks_a_text_and_muxes_it(avatar_file: Path, tmp_path: Path) -> None:
    video, strip = tmp_path / "out.mp4", tmp_path / "strip.png"
    words = ["render", str(avatar_file), "--text", "So?", "--voice", "f2", "-o", str(video), "--strip", str(strip)]
    assert main([*words, "--device", "cpu"]) == 0
    said = api.synthesize("So?", voice="f2")
    with av.open(str(video)) as container:
        assert len(container.streams.audio) == 1
        assert sum(1 for _ in container.decode(video=0)) == pytest.approx(said.seconds * 25, abs=1.5)
    heard = load_audio(video)
    assert len(heard) / 16000 == pytest.approx(said.seconds, abs=0.1)
    assert np.sqrt((heard**2).mean()) == pytest.approx(np.sqrt((said.samples**2).mean()), rel=0.1)
    assert strip.stat().st_size > 1000


def test_render_takes_an_utterance(avatar_file: Path, tmp_path: Path) -> None:
    said = api.synthesize("So?")
    made = api.render(avatar_file, said, tmp_path / "out.mp4", device="cpu")
    assert made.frames == pytest.approx(said.seconds * 25, abs=1) and made.strip is None
