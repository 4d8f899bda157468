"""Written files read by TalkingGaussian's and ER-NeRF's rules (docs/paper.md 1, 1.1-1.3): names, shapes, colours, axes.

Their loaders cannot run here. This is an own re-implementation of their reading rules, in their vocabulary, which
shares no code with our reader: PIL colours, OpenGL to COLMAP axes, OpenFace's column names, lip and mouth boxes.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile

from emotalking.data import Subject, validate
from emotalking.data import writer as write
from emotalking.data.labels import Label

from .conftest import FRAMES, Tiny


@dataclass
class PeerFrame:
    """A camera as TalkingGaussian keeps it."""

    R: np.ndarray
    """Camera-to-world rotation, COLMAP axes (the transpose of world-to-camera)."""
    T: np.ndarray
    fov_x: float
    fov_y: float
    image: np.ndarray
    background: np.ndarray
    face: np.ndarray
    hair: np.ndarray
    mouth: np.ndarray
    au_exp: np.ndarray
    blink: float
    au25: list[float]
    lips_rect: list[int]
    lhalf_rect: list[int]
    mouth_bound: list[float]
    audio: np.ndarray


def read_as_talkinggaussian(root: Path, split: str, features: str = "aud_ds.npy") -> list[PeerFrame]:
    """Rules of docs/paper.md 1: every file by exact name, nothing forgiven."""
    content = json.loads((root / f"transforms_{split}.json").read_text())
    focal = content["focal_len"]
    audio = np.load(root / features).astype(np.float32).transpose(0, 2, 1)
    padded = np.pad(audio, ((4, 4), (0, 0), (0, 0)))
    with (root / "au.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    blinks = np.clip(np.array([float(row[" AU45_r"]) for row in rows]), 0, 2)
    au25 = np.array([float(row[" AU25_r"]) for row in rows])
    au25 = np.clip(au25, 0, np.percentile(au25, 95))
    levels = [float(np.percentile(au25, q)) for q in (25, 50, 75)] + [float(au25.max())]
    plate = np.array(Image.open(root / "bc.jpg").convert("RGB"))
    lms = {frame["img_id"]: np.loadtxt(root / "ori_imgs" / f"{frame['img_id']}.lms") for frame in content["frames"]}
    openings = [lms[i][60:68, 1].max() - lms[i][60:68, 1].min() for i in lms]
    frames = []
    for frame in content["frames"]:
        i = frame["img_id"]
        assert frame["aud_id"] == i
        c2w = np.array(frame["transform_matrix"])
        c2w[:3, 1:3] *= -1  # OpenGL to COLMAP
        w2c = np.linalg.inv(c2w)
        image = np.array(Image.open(root / "gt_imgs" / f"{i}.jpg").convert("RGB"))
        height, width = image.shape[:2]
        torso = np.array(Image.open(root / "torso_imgs" / f"{i}.png").convert("RGBA")) / 255.0
        seg = np.array(Image.open(root / "parsing" / f"{i}.png").convert("RGB"))
        teeth = np.load(root / "teeth_mask" / f"{i}.npy")
        assert teeth.dtype == bool and teeth.shape == seg.shape[:2]
        face = ((seg == [0, 0, 255]).all(-1)) ^ teeth
        points = lms[i]
        assert points.shape == (68, 2)
        # Rows and columns: the files hold x y, the boxes are row_min, row_max, col_min, col_max.
        rows_, cols_ = points[48:60, 1].astype(int), points[48:60, 0].astype(int)
        middle = (rows_.min() + rows_.max()) // 2, (cols_.min() + cols_.max()) // 2
        half = max(rows_.max() - rows_.min(), cols_.max() - cols_.min()) // 2
        box = [max(0, middle[0] - half), min(height, middle[0] + half)]
        box += [max(0, middle[1] - half), min(width, middle[1] + half)]
        chin = [int(points[31:36, 1].min()), int(points[:, 1].max()), int(points[:, 0].min()), int(points[:, 0].max())]
        frames.append(
            PeerFrame(
                R=w2c[:3, :3].T,
                T=w2c[:3, 3],
                fov_x=2 * np.arctan(width / 2 / focal),
                fov_y=2 * np.arctan(height / 2 / focal),
                image=image,
                background=(torso[..., :3] * torso[..., 3:] * 255 + plate * (1 - torso[..., 3:])).astype(np.uint8),
                face=face,
                hair=(seg == [0, 0, 0]).all(-1),
                mouth=(seg == [100, 100, 100]).all(-1) | teeth,
                au_exp=np.array(
                    [float(rows[i][f" {name}_r"]) for name in ("AU01", "AU04", "AU05", "AU06", "AU07")] + [blinks[i]]
                ),
                blink=float(blinks[i] / 2),
                au25=[float(au25[i]), *levels],
                lips_rect=[int(v) for v in box],
                lhalf_rect=chin,
                mouth_bound=[min(openings), max(openings), float(points[60:68, 1].max() - points[60:68, 1].min())],
                audio=padded[i : i + 8],
            )
        )
    return frames


def add_deepspeech(root: Path, count: int) -> None:
    np.save(root / "aud_ds.npy", np.random.default_rng(0).normal(size=(count, 16, 29)).astype(np.float32))


@pytest.fixture
def folder(actor_subject: Subject, tmp_path: Path) -> Subject:
    """The actor's folder beside DeepSpeech features, linked so that the shared one stays as it is."""
    for path in actor_subject.files.root.iterdir():
        (tmp_path / path.name).symlink_to(path)
    add_deepspeech(tmp_path, actor_subject.num_frames)
    return Subject.open(tmp_path)


def test_their_cameras_see_what_ours_see(folder: Subject) -> None:
    root = folder.files.root
    frames = read_as_talkinggaussian(root, "train") + read_as_talkinggaussian(root, "val")
    assert len(frames) == folder.num_frames
    shape = folder.landmarks.shape
    assert shape is not None
    for i, frame in enumerate(frames):
        np.testing.assert_allclose(frame.R.T, folder.viewmats[i, :3, :3], atol=1e-5)
        np.testing.assert_allclose(frame.T, folder.viewmats[i, :3, 3], atol=1e-5)
        assert np.isclose(frame.fov_x, 2 * np.arctan(folder.width / 2 / folder.focal))
        # Their pinhole with a centred principal point puts the nose where the picture has it.
        p = frame.R.T @ shape[folder.landmarks.layout.nose[-1]].astype(float) + frame.T
        seen = p[:2] / p[2] * folder.width / 2 / np.tan(frame.fov_x / 2) + [folder.width / 2, folder.height / 2]
        tip = folder.landmarks.points[i, folder.landmarks.layout.nose[-1]]
        assert np.abs(seen - tip).max() < 1.5
    distance = np.linalg.norm([frame.R @ frame.T for frame in frames], axis=1)
    assert (0.5 < distance).all() and (distance < 1.0).all()  # "about 0.7 from the head"


def test_their_masks_and_pictures_are_ours(folder: Subject) -> None:
    frames = read_as_talkinggaussian(folder.files.root, "train")
    assert any(frame.mouth.any() for frame in frames)
    for i, frame in enumerate(frames):
        ours = folder.frame(i)
        np.testing.assert_array_equal(frame.face, ours.face)
        np.testing.assert_array_equal(frame.hair, ours.hair)
        np.testing.assert_array_equal(frame.mouth, ours.mouth)
        assert not (frame.face & frame.mouth).any() and frame.hair.any()
        assert np.abs(frame.image.astype(int) - ours.image).mean() < 0.5
        body = (ours.labels == Label.TORSO) & (ours.torso[..., 3] == 255)
        assert np.abs(frame.background[body].astype(int) - frame.image[body]).mean() < 3
        clear = ours.torso[..., 3] == 0
        assert np.abs(frame.background[clear].astype(int) - folder.background[clear]).mean() < 0.5


def test_their_numbers_are_ours(folder: Subject) -> None:
    frames = read_as_talkinggaussian(folder.files.root, "train")
    np.testing.assert_allclose([f.au_exp for f in frames], folder.aus[: len(frames)], atol=1e-4)
    np.testing.assert_allclose([f.blink for f in frames], folder.blink[: len(frames)], atol=1e-4)
    np.testing.assert_allclose(frames[0].au25[1:], np.percentile(folder.au25, [25, 50, 75, 100]), atol=1e-3)
    for i, frame in enumerate(frames):
        top, bottom, left, right = frame.lips_rect
        assert 0 <= top < bottom <= folder.height and 0 <= left < right <= folder.width
        assert np.abs(np.array(frame.lips_rect)[[0, 2, 1, 3]] - [*folder.lips_rect(i)]).max() <= 1
        low, high, left, right = frame.lhalf_rect
        assert low < high and left < right
        assert frame.mouth_bound[0] <= frame.mouth_bound[2] <= frame.mouth_bound[1]
        assert frame.audio.shape == (8, 29, 16)


def test_the_sound_is_16_khz_and_as_long(folder: Subject) -> None:
    rate, samples = wavfile.read(folder.files.audio)
    assert rate == 16000 and samples.dtype == np.int16
    assert abs(len(samples) / rate - folder.num_frames / 25) < 0.05


@pytest.mark.parametrize("compat", ["talkinggaussian", "ernerf"])
def test_validate_agrees(folder: Subject, compat: str) -> None:
    if compat == "ernerf":
        (folder.files.root / "aud.npy").symlink_to(folder.files.root / "aud_ds.npy")
    assert [f for f in validate(folder.files.root, compat) if f.severity == "error"] == []


@pytest.mark.parametrize(("name", "shape"), [("ds", (16, 29)), ("eo", (16, 44)), ("hu", (2, 1024))])
def test_both_names_of_the_audio_features(tiny: Tiny, name: str, shape: tuple[int, int]) -> None:
    """ER-NeRF says aud.npy, whatever it holds; TalkingGaussian says aud_ds.npy, aud_hu.npy, aud_eo.npy."""
    values = np.random.default_rng(1).normal(size=(FRAMES, *shape)).astype(np.float32)
    np.save(tiny.root / "aud.npy", values)
    np.testing.assert_array_equal(Subject.open(tiny.root).audio_features(name), values)
    write.write_audio_features(tiny.root, name, values + 1)
    np.testing.assert_array_equal(Subject.open(tiny.root).audio_features(name), values + 1)
