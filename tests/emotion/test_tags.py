"""Emotion tags in texts."""

import numpy as np
import pytest

from emotalking.emotion.circumplex import PRESETS
from emotalking.emotion.tags import GLIDE_S, parse_tags, tagged_track
from emotalking.errors import InputError
from emotalking.tts.base import TimedLabel, Utterance


def utterance(text: str, words: list[tuple[str, float, float]] | None, seconds: float = 5.0) -> Utterance:
    timed = None if words is None else tuple(TimedLabel(word, float(start), float(end)) for word, start, end in words)
    return Utterance(text, "en", "v", np.zeros(int(seconds * 16000), np.float32), timed, None)


def test_tags_are_removed_and_placed() -> None:
    plain, tags = parse_tags("[happy] Hello [calm]there, [v=0.5,a=-0.2] you [SAD:0.5] all.")
    assert plain == "Hello there, you all."
    assert [plain[tag.place :].split()[0] for tag in tags] == ["Hello", "there,", "you", "all."]
    sad = np.array(PRESETS["sad"]) / 2
    np.testing.assert_allclose(
        [(tag.valence, tag.arousal) for tag in tags], [PRESETS["happy"], PRESETS["calm"], (0.5, -0.2), sad]
    )


@pytest.mark.parametrize("text", ["no tags at all", "", "a (b) {c}"])
def test_texts_without_tags_stay(text: str) -> None:
    assert parse_tags(text) == (text, ())


def test_brackets_can_be_read() -> None:
    assert parse_tags(r"see \[1\] and \\ and C:\x") == (r"see [1] and \ and C:\x", ())


@pytest.mark.parametrize(
    "text, message",
    [
        ("[angri] x", "use one of neutral, happy"),
        ("[] x", "use one of neutral"),
        ("[happy x", "stands alone"),
        ("x ] y", "stands alone"),
        ("x\n] y", 'alone in "x . y"'),
        ("[hap\npy] x", r"\[hap py\] is no emotion tag"),
        ("[sad:3] x", "strength"),
        ("[v=2,a=0] x", "between -1 and 1"),
        ("[v=x,a=0] x", "two numbers"),
    ],
)
def test_malformed_tags(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_tags(text)


def test_the_track_follows_the_words() -> None:
    plain, tags = parse_tags("One two [happy] three, 44 [sad] five.")
    words = [("One", 0.5, 1), ("two", 1, 1.5), ("three", 2, 2.5), ("forty-four", 2.5, 3), ("five", 3.2, 4)]
    said = utterance(plain, words)
    track = tagged_track(tags, said)
    assert track is not None
    values = track.at(np.array([0.0, 2.0 - GLIDE_S, 2.0 - GLIDE_S / 2, 2.0, 3.2 - GLIDE_S, 3.2, 9.0]))
    happy, sad = np.array(PRESETS["happy"]), np.array(PRESETS["sad"])
    np.testing.assert_allclose(values[[0, 1, 3, 4, 5, 6]], [[0, 0], [0, 0], happy, happy, sad, sad], atol=1e-6)
    np.testing.assert_allclose(values[2], happy / 2, atol=1e-6)


def test_the_first_emotion_is_there_before_the_speech() -> None:
    plain, tags = parse_tags("[happy] One two")
    track = tagged_track(tags, utterance(plain, [("One", 1.0, 1.5), ("two", 1.5, 2)]))
    assert track is not None
    np.testing.assert_allclose(track.at(np.array([0.0])), [PRESETS["happy"]], atol=1e-6)


def test_many_tags_in_a_short_time_and_at_the_end() -> None:
    plain, tags = parse_tags("[sad][happy] a [calm] b [angry] c [tired]")
    track = tagged_track(tags, utterance(plain, [("a", 0.1, 0.2), ("b", 0.2, 0.3), ("c", 0.3, 0.4)], 1.0))
    assert track is not None
    wanted = [PRESETS[name] for name in ("happy", "calm", "angry", "tired")]
    np.testing.assert_allclose(track.at(np.array([0.0, 0.2, 0.3, 1.0])), wanted, atol=1e-6)


def test_without_times_of_words_a_tag_is_placed_by_its_share() -> None:
    plain, tags = parse_tags("abcd [happy]efghi")
    track = tagged_track(tags, utterance(plain, None, 10.0))
    assert track is not None
    np.testing.assert_allclose(track.times, [0.0, 5.0 - GLIDE_S, 5.0])
    assert tagged_track((), utterance("a", None)) is None
