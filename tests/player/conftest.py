"""A stand-in for an avatar: the same interface, pictures that tell what they were made from."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from emotalking.data.audio_features import DEFAULT_FEATURE

RECORDED = 60


@dataclass
class Frames:
    rgb: Tensor
    alpha: Tensor


class FakeAvatar:
    """A disc for a head; its red is the loudness of speech, its green the valence; it moves with the pose."""

    width, height, fps, audio_features = 48, 40, Fraction(25), DEFAULT_FEATURE
    device = torch.device("cpu")
    closes_lips = emotional = True

    def __init__(self) -> None:
        time = np.arange(RECORDED) / 25
        self.viewmats = np.tile(np.eye(4, dtype=np.float32), (RECORDED, 1, 1))
        self.viewmats[:, 0, 3] = 0.01 * np.sin(2 * np.pi * 0.6 * time)
        self.viewmats[:, 2, 3] = 0.7
        self.aus = np.zeros((RECORDED, 6), np.float32)
        self.aus[20:24, 5] = 2.0
        self.va = np.zeros((RECORDED, 2), np.float32)
        self.background = np.full((self.height, self.width, 3), (10, 20, 200), np.uint8)
        self.calls: list[dict] = []
        self.shown: list[int] = []

    def torso(self, index: int) -> np.ndarray:
        self.shown.append(index)
        layer = np.zeros((self.height, self.width, 4), np.uint8)
        layer[30:] = (200, 100, index, 255)
        layer[28:30] = (200, 100, index, 128)
        return layer

    def render(self, viewmats, audio_windows, aus, va=None, background=None, speech=None, *, gaze=None) -> Frames:
        batch = len(viewmats)
        self.calls.append(
            {
                "viewmats": viewmats,
                "windows": audio_windows,
                "aus": aus,
                "va": va,
                "behind": background,
                "speech": speech,
                "gaze": gaze,
            }
        )
        rows, columns = torch.meshgrid(torch.arange(self.height), torch.arange(self.width), indexing="ij")
        x = 24 + 500 * viewmats[:, 0, 3]
        alpha = (((columns - x[:, None, None]) ** 2 + (rows - 16) ** 2) < 100).float()
        colour = torch.zeros(batch, 3)
        colour[:, 0] = (audio_windows[:, 4].mean((1, 2)) / 4).clamp(0, 1)
        if speech is not None:
            colour[:, 0] *= speech
        if va is not None:
            colour[:, 1] = va[:, 0] / 2 + 0.5
        rgb = colour[:, None, None] * alpha[..., None]
        if background is not None:
            rgb = rgb + background * (1 - alpha[..., None])
        return Frames(rgb, alpha)


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
