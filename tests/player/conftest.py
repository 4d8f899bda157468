"""A stand-in for an avatar: the same interface, pictures that tell what they were made from."""

from fractions import Fraction

import numpy as np
import pytest

from ..avatars import Frames, PlainAvatar

RECORDED = 60


class FakeAvatar(PlainAvatar):
    """A disc for a head; its red is the loudness of speech, its green the valence; it moves with the pose."""

    def __init__(self, width: int = 48, height: int = 40) -> None:
        super().__init__(width, height, Fraction(25), RECORDED)
        self.viewmats[:, 0, 3] = 0.01 * np.sin(2 * np.pi * 0.6 * np.arange(RECORDED) / 25)
        self.aus[20:24, 5] = 2.0
        self.calls: list[dict] = []
        self.shown: list[int] = []

    def torso(self, index: int) -> np.ndarray:
        self.shown.append(index)
        layer = super().torso(index)
        layer[30:] = (200, 100, index, 255)
        layer[28:30] = (200, 100, index, 128)
        return layer

    def render(self, viewmats, audio_windows, aus, va=None, background=None, speech=None, *, gaze=None) -> Frames:
        given = {"viewmats": viewmats, "windows": audio_windows, "aus": aus, "va": va, "behind": background}
        self.calls.append(given | {"speech": speech, "gaze": gaze})
        loudness = (audio_windows[:, 4].mean((1, 2)) / 4).clamp(0, 1)
        red = loudness if speech is None else loudness * speech
        return self.composed(self.disc(24 + 500 * viewmats[:, 0, 3, None, None], 16, 10), red, va, background)


class FakeEmotion:
    """Valence rises by 0.1 a second."""

    def at(self, times_s: np.ndarray) -> np.ndarray:
        return np.stack([0.1 * np.asarray(times_s), np.zeros(len(times_s))], -1)


@pytest.fixture
def avatar() -> FakeAvatar:
    return FakeAvatar()


@pytest.fixture
def emotion() -> FakeEmotion:
    return FakeEmotion()


@pytest.fixture
def talk() -> np.ndarray:
    """2.02 s of syllables at 16 kHz: 50.5 frames of 25 Hz."""
    time = np.arange(32320) / 16000
    voice = sum(np.sin(2 * np.pi * 130 * k * time + k) / k for k in range(1, 30))
    return (0.1 * voice * np.clip(np.sin(2 * np.pi * 3 * time), 0, None)).astype(np.float32)
