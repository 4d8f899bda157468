"""A tiny subject folder with known contents."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from emotalking.data import writer as write
from emotalking.data.audio_features import DEFAULT_FEATURE, audio_feature
from emotalking.data.labels import Label, Masks
from emotalking.data.layouts import IBUG68

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
    features: np.ndarray
    """Of :data:`DEFAULT_FEATURE`."""


def rotation(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def crude_face() -> np.ndarray:
    """68 points of a face in the head frame (iBUG order), eye centres 0.063 apart."""
    turn = np.linspace(0, 1, 17)
    jaw = np.stack([-0.07 * np.cos(np.pi * turn), 0.02 - 0.1 * np.sin(np.pi * turn), 0.03 + 0 * turn], 1)

    def arc(x: float, y: float, width: float, height: float, count: int) -> np.ndarray:
        t = np.linspace(-1, 1, count)
        return np.stack([x + width * t, y + height * (1 - t**2), 0.06 + 0 * t], 1)

    def ring(x: float, y: float, width: float, height: float, count: int) -> np.ndarray:
        t = np.pi - np.linspace(0, 2 * np.pi, count, endpoint=False)
        return np.stack([x + width * np.cos(t), y + height * np.sin(t), 0.06 + 0 * t], 1)

    brows = [arc(x, 0.025, 0.018, 0.005, 5) for x in (-0.032, 0.032)]
    bridge = np.stack([np.zeros(4), np.linspace(0.005, -0.02, 4), np.linspace(0.06, 0.08, 4)], 1)
    eyes = [ring(x, 0.005, 0.014, 0.005, 6) for x in (-0.0315, 0.0315)]
    lips = [ring(0, -0.045, 0.025, 0.012, 12), ring(0, -0.045, 0.018, 0.005, 8)]
    return np.concatenate([jaw, *brows, bridge, arc(0, -0.025, 0.01, 0.0, 5), *eyes, *lips])


def make_tiny(root: Path) -> Tiny:
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 1, WIDTH)[None, :, None] * np.linspace(0.3, 1, HEIGHT)[:, None, None]
    images = (ramp * np.linspace(80, 250, FRAMES)[:, None, None, None] * [1.0, 0.8, 0.6]).astype(np.uint8)
    torso = rng.integers(0, 256, (FRAMES, HEIGHT, WIDTH, 4)).astype(np.uint8)
    labels = rng.integers(0, 6, (FRAMES, HEIGHT, WIDTH)).astype(np.uint8)
    teeth = np.zeros(labels.shape, bool)
    teeth[:, 20:24, 20:30] = True
    labels[teeth] = Label.MOUTH
    viewmats = np.tile(np.eye(4), (FRAMES, 1, 1))
    for i in range(FRAMES):
        viewmats[i, :3, :3] = np.diag([1.0, -1.0, -1.0]) @ rotation(0.1 * i)
        viewmats[i, :3, 3] = [0.01 * i - 0.05, 0.02, 0.7]
    shape = crude_face()
    lips = np.isin(np.arange(68), range(60, 68))[:, None] * np.array([0, 0.003, 0]) * np.sign(shape[:, 1:2] + 0.045)
    seen = shape + lips * np.arange(FRAMES)[:, None, None]  # the mouth opens
    camera = np.einsum("nij,nkj->nki", viewmats[:, :3, :3], seen) + viewmats[:, None, :3, 3]
    points = (FOCAL * camera[..., :2] / camera[..., 2:] + [WIDTH / 2, HEIGHT / 2]).astype(np.float32)
    names = ("AU01", "AU04", "AU05", "AU06", "AU07", "AU25", "AU45")
    aus = {name: rng.uniform(0, 5, FRAMES) for name in names}
    va = rng.uniform(-1, 1, (FRAMES, 2))
    features = rng.normal(size=(FRAMES, *audio_feature(DEFAULT_FEATURE).shape)).astype(np.float32)
    write.write_background(root, images[0])
    for i in range(FRAMES):
        write.write_original(root, i, images[i])
        write.write_target(root, i, images[i])
        write.write_torso(root, i, torso[i])
        write.write_masks(root, i, Masks(labels[i], teeth[i]))
        write.write_ibug_landmarks(root, i, points[i])
    write.write_action_units(root, aus, 25.0)
    write.write_transforms(root, viewmats, FOCAL, WIDTH, HEIGHT)
    write.write_audio(root, 0.1 * np.sin(np.arange(int(FRAMES / 25 * 16000)) / 9))
    write.write_audio_features(root, DEFAULT_FEATURE, features)
    write.write_valence_arousal(root, va)
    write.write_landmarks(root, points, np.ones(FRAMES, bool), shape, IBUG68)
    write.write_manifest(root, {"fps": "25", "providers": {"parsing": "embedded"}})
    return Tiny(root, images, torso, labels, teeth, points, viewmats, aus, va, features)


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    return make_tiny(tmp_path / "someone")
