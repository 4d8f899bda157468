"""Emotion from the voice and from tags of a text, from the command line to the files."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from emotalking import api
from emotalking.cli.main import main
from emotalking.emotion.tracks import EmotionTrack
from emotalking.errors import InputError
from emotalking.io.images import read_image
from emotalking.tts.base import TimedLabel, Utterance

needs_hama = pytest.mark.skipif(find_spec("hama") is None, reason="the package hama is not installed")


class Parrot:
    """A synthesizer of half a second a word."""

    def synthesize(
        self, text: str, *, language: str = "en", voice: str | None = None, rate: float | int = 1.0
    ) -> Utterance:
        words = text.split()
        timed = tuple(TimedLabel(word, 0.5 * number, 0.5 * number + 0.5) for number, word in enumerate(words))
        return Utterance(text, language, "parrot", np.zeros(8000 * len(words), np.float32), timed, timed)

    def voices(self, language: str = "en") -> tuple[str, ...]:
        return ("parrot",)

    def languages(self) -> tuple[str, ...]:
        return ("en",)


@pytest.fixture(autouse=True)
def parrot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emotalking.tts.backends.open_synthesizer", lambda which: Parrot())


@needs_hama
def test_emotion_of_the_voice_is_rendered_and_written(avatar_file: Path, speech_file: Path, tmp_path: Path) -> None:
    words = ["render", str(avatar_file), "--audio", str(speech_file), "--emotion", "auto:2"]
    keys, plot, strip = tmp_path / "e.csv", tmp_path / "e.png", tmp_path / "s.png"
    assert main([*words, "--strip", str(strip), "--emotion-file", str(keys)]) == 0
    assert main([*words, "--strip", str(tmp_path / "t.png"), "--emotion-file", str(plot)]) == 0
    track = EmotionTrack.from_file(keys)
    assert (np.abs(track.values) <= 1).all()
    assert read_image(plot).std() > 5 and read_image(strip).std() > 5


def test_a_plot_is_as_long_as_the_video(avatar_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    monkeypatch.setattr(
        "emotalking.emotion.plot.write_emotion", lambda path, track, samples: lengths.append(len(samples))
    )
    api.render(
        avatar_file,
        text="one two three",
        emotion="happy",
        seconds=1.0,
        strip=tmp_path / "s.png",
        emotion_file=tmp_path / "e.png",
        device="cpu",
    )
    assert lengths == [16000]


def test_tags_of_a_text_become_a_track(tmp_path: Path, avatar_file: Path) -> None:
    keys, sound = tmp_path / "e.csv", tmp_path / "s.wav"
    said = api.synthesize("[happy] one two [sad] three", sound, emotion_file=keys)
    assert said.text == "one two three"
    track = EmotionTrack.from_file(keys)
    np.testing.assert_allclose(track.at(np.array([0.0, 1.0, 1.2])), [[0.74, 0.31], [-0.74, -0.31], [-0.74, -0.31]])
    strip = tmp_path / "s.png"
    api.render(avatar_file, text="[happy] one two [sad] three", strip=strip, emotion_file=keys, device="cpu")
    again = EmotionTrack.from_file(keys)
    np.testing.assert_array_equal(again.values, track.values)
    api.render(avatar_file, text="one two three", strip=tmp_path / "plain.png", device="cpu")
    assert len(read_image(strip)) > len(read_image(tmp_path / "plain.png"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": "[hapy] a"}, "no emotion tag"),
        ({"text": "[happy] a", "emotion": "sad"}, "omit those"),
        ({"text": "a", "emotion_file": "e.csv"}, "no emotion to write"),
        ({"text": "a", "emotion": "auto", "emotion_file": "e.txt"}, ".csv"),
        ({"text": "a", "emotion": "auto:-1"}, "at least 0"),
        ({"text": "a", "emotion": "auto:much"}, "not a number"),
        ({"text": "a", "emotion": "auto", "va": (0.5, 0)}, "only one"),
    ],
)
def test_what_does_not_fit_is_refused(
    avatar_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        api.render(avatar_file, strip="s.png", device="cpu", **options)
    assert list(tmp_path.iterdir()) == []


def test_speech_without_tags_writes_no_emotion(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no emotions in brackets"):
        api.synthesize("hello", tmp_path / "a.wav", emotion_file=tmp_path / "e.csv")


def test_a_file_of_another_kind_stays(tmp_path: Path, avatar_file: Path) -> None:
    (tmp_path / "e.csv").write_text("name,price\n")
    with pytest.raises(InputError, match="e.csv"):
        api.render(avatar_file, text="[sad] a", strip=tmp_path / "s.png", emotion_file=tmp_path / "e.csv", device="cpu")
    assert (tmp_path / "e.csv").read_text() == "name,price\n"
