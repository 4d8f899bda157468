"""Emotion from the voice: what raises arousal, what must not matter, and the stream."""

from importlib.util import find_spec

import numpy as np
import pytest

from emotalking.emotion.voice import BALANCE_SLOPE, MOST_VALENCE, VoiceEmotion, voice_emotion

pytestmark = pytest.mark.skipif(find_spec("hama") is None, reason="the package hama is not installed")


def speech(hz: float, tilt: float, lively: float = 2.0, seconds: float = 6.0, level: float = 0.3) -> np.ndarray:
    """Syllables of a voice.

    Args:
        tilt: exponent by which the harmonics fall: small is bright.
        lively: range of the pitch, semitones.
    """
    t = np.arange(int(seconds * 16000)) / 16000
    phase = np.cumsum(hz * 2 ** (lively * np.sin(2 * np.pi * 0.6 * t) / 12)) / 16000
    voice = sum(np.sin(2 * np.pi * k * phase) / k**tilt for k in range(1, int(3500 / hz)))
    loud = np.maximum(0.0, np.sin(2 * np.pi * 2.3 * t)) ** 0.7
    noise = 1e-5 * np.random.default_rng(0).normal(size=len(t))
    return (level * loud * voice + noise).astype(np.float32)


def mean(sound: np.ndarray, gain: float = 1.0) -> np.ndarray:
    times = np.arange(1, len(sound) / 16000 - 1, 0.2)
    return voice_emotion([sound], gain).at(times).mean(0)


def test_effort_raises_arousal() -> None:
    calm, loud = mean(speech(105, 2.2, 1.5)), mean(speech(260, 0.8, 5))
    assert calm[1] < -0.15 < 0.3 < loud[1]
    assert mean(speech(150, 1.6))[1] > mean(speech(105, 1.6))[1] + 0.05
    assert mean(speech(120, 1.2))[1] > mean(speech(120, 2.2))[1] + 0.1
    assert mean(speech(120, 2, 5))[1] > mean(speech(120, 2, 1))[1] + 0.1
    assert 0.3 < BALANCE_SLOPE < 0.6


def test_valence_stays_small() -> None:
    for sound in (speech(105, 2.2, 1.5), speech(190, 1.2, 5), speech(120, 2, 8)):
        assert np.abs(mean(sound, 3.0)[0]) <= MOST_VALENCE


@pytest.mark.parametrize("decibels", [-20, 20])
def test_the_level_does_not_matter(decibels: float) -> None:
    sound = speech(120, 2) * np.float32(0.3)
    np.testing.assert_allclose(mean(sound * np.float32(10 ** (decibels / 20))), mean(sound), atol=0.02)


def test_louder_speech_within_a_recording_is_more_aroused() -> None:
    sound = np.concatenate([speech(120, 2, level=0.03), speech(140, 1.7, level=0.3)])
    values = voice_emotion([sound]).at(np.array([3.0, 9.0]))
    assert values[1, 1] > values[0, 1] + 0.3


@pytest.mark.parametrize("sound", [np.zeros(32000), np.random.default_rng(0).normal(0, 0.05, 32000), np.zeros(0)])
def test_no_voice_is_neutral(sound: np.ndarray) -> None:
    assert (voice_emotion([sound.astype(np.float32)]).at(np.arange(3.0)) == 0).all()


def test_gain_and_its_limits() -> None:
    sound = speech(260, 0.8, 5)
    assert (mean(sound, 0.0) == 0).all()
    assert mean(sound, 2.0)[1] > mean(sound)[1]
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="gain"):
            voice_emotion([sound], wrong)
        with pytest.raises(ValueError, match="gain"):
            VoiceEmotion(wrong)


def test_a_stream_depends_on_no_pieces_and_not_on_the_future() -> None:
    sound = np.concatenate([speech(110, 2.2, level=0.1), speech(260, 0.8, 5, level=0.3)])
    small, large = VoiceEmotion(), VoiceEmotion()
    followed = np.array([small.push(sound[i : i + 700]) for i in range(0, len(sound), 700)])
    for piece in np.array_split(sound, 5):
        last = large.push(piece)
    np.testing.assert_array_equal(followed[-1], last)
    earlier = VoiceEmotion().push(sound[: 100 * 700])
    np.testing.assert_array_equal(followed[99], earlier)
    assert np.abs(np.diff(followed, axis=0)).max() < 0.2
    calm, loud = followed[100:130, 1].mean(), followed[230:, 1].mean()
    assert loud > calm + 0.3
    assert np.abs(followed).max() <= 1


def test_a_stream_of_silence_is_neutral() -> None:
    assert VoiceEmotion().push(np.zeros(48000, np.float32)) == (0.0, 0.0)
