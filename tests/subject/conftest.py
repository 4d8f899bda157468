"""A tiny subject folder with known contents."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from emotalking.subject import write
from emotalking.subject.layouts import IBUG68, Label

HEIGHT, WIDTH, FRAMES, FOCAL = 40, 48, 11, 90.0


@dataclass(frozen=True)
class Tiny:
    root: Path
    images: np.ndarray
    torso: np.ndarray
    labels: np.ndarray
    teeth: np.ndarray
    points: np.ndarray
    viewmats: np.ndarray
    aus: dict[str, np.ndarray]
    va: np.ndarray
    mel: np.ndarray


def rotation(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def make_tiny(root: Path) -> Tiny:
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 1, WIDTH)[None, :, None] * np.linspace(0.3, 1, HEIGHT)[:, None, None]
    images = (ramp * np.linspace(80, 250, FRAMES)[:, None, None, None] * [1.0, 0.8, 0.6]).astype(np.uint8)
    torso = rng.integers(0, 256, (FRAMES, HEIGHT, WIDTH, 4)).astype(np.uint8)
    labels = rng.integers(0, 6, (FRAMES, HEIGHT, WIDTH)).astype(np.uint8)
    teeth = np.zeros(labels.shape, bool)
    teeth[:, 20:24, 20:30] = True
    labels[teeth] = Label.MOUTH
    points = rng.uniform(5, 35, (FRAMES, 68, 2)).astype(np.float32)
    viewmats = np.tile(np.eye(4), (FRAMES, 1, 1))
    for i in range(FRAMES):
        viewmats[i, :3, :3] = np.diag([1.0, -1.0, -1.0]) @ rotation(0.1 * i)
        viewmats[i, :3, 3] = [0.01 * i, 0.02, 0.7]
    names = ("AU01", "AU04", "AU05", "AU06", "AU07", "AU25", "AU45")
    aus = {name: rng.uniform(0, 5, FRAMES) for name in names}
    va = rng.uniform(-1, 1, (FRAMES, 2))
    mel = rng.normal(size=(FRAMES, 16, 32)).astype(np.float32)
    write.write_background(root, images[0])
    for i in range(FRAMES):
        write.write_original(root, i, images[i])
        write.write_target(root, i, images[i])
        write.write_torso(root, i, torso[i])
        write.write_parsing(root, i, labels[i], teeth[i])
        write.write_ibug_landmarks(root, i, points[i])
    write.write_action_units(root, aus, 25.0)
    write.write_transforms(root, viewmats, FOCAL, WIDTH, HEIGHT)
    write.write_audio(root, np.zeros(int(FRAMES / 25 * 16000)))
    write.write_audio_features(root, "mel", mel)
    write.write_valence_arousal(root, va)
    shape = rng.normal(size=(68, 3))
    write.write_landmarks(root, points, np.ones(FRAMES, bool), shape, IBUG68)
    write.write_manifest(root, {"fps": "25", "providers": {"parsing": "embedded"}})
    return Tiny(root, images, torso, labels, teeth, points, viewmats, aus, va, mel)


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    return make_tiny(tmp_path / "someone")
