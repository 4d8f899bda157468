"""Rendered heads back in the full frames of their clip."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from emotalking.data.frame import ClipCrop, from_runs, to_runs
from emotalking.errors import InputError
from emotalking.player.clip import render_clip
from emotalking.player.paste import ClipFrames, blend_weight, paste
from emotalking.player.player import Player

from .conftest import RECORDED, FakeAvatar

WIDTH, HEIGHT, COUNT = 160, 120, 80


def backdrop(index: int) -> np.ndarray:
    """A texture that moves, and tells the picture's number in its first rows."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    image = np.stack([90 + 40 * np.sin((columns + 3 * index) / 9), 120 + 50 * np.cos(rows / 7), 90 + rows], -1)
    image[:16] = 20 + 2.5 * index
    return image.astype(np.uint8)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lossless, with B-frames and keyframes 25 pictures apart."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264rgb", rate=Fraction(25), options={"qp": "0", "g": "25", "bf": "2"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "rgb24"
        for index in range(COUNT):
            frame = av.VideoFrame.from_ndarray(backdrop(index), format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


@pytest.fixture
def place() -> ClipCrop:
    """Every frame of the avatar shows the clip's picture seven later."""
    return ClipCrop(40, 30, 80, WIDTH, HEIGHT, np.arange(RECORDED) + 7)


class PlacedAvatar(FakeAvatar):
    """A square avatar that knows its place."""

    def __init__(self, place: ClipCrop | None) -> None:
        super().__init__(48, 48)
        self.place = place

    def torso(self, index: int) -> np.ndarray:
        return np.zeros((48, 48, 4), np.uint8)


def test_any_picture_in_any_order(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emotalking.player.paste.CACHE_BYTES", 9 * WIDTH * HEIGHT * 3)
    frames = ClipFrames(clip)
    assert len(frames) == COUNT
    order = [0, 1, 2, 30, 31, *range(60, 30, -1), 79, 0, *range(40, 60), *range(59, 20, -1), 20, 78]
    for index in order:
        np.testing.assert_array_equal(frames[index], backdrop(index))
        assert len(frames._cache) <= 9
    with pytest.raises(IndexError):
        frames[COUNT]
    frames.close()


def test_outside_the_feather_nothing_changes(place: ClipCrop) -> None:
    frame = backdrop(3)
    rendered = np.zeros((48, 48, 4), np.uint8)
    rendered[..., :3] = 255
    rendered[16:32, 16:32, 3] = 255
    out = paste(frame, rendered, place)
    weight = cv2.resize(blend_weight(rendered[..., 3] / np.float32(255)), (80, 80), interpolation=cv2.INTER_LINEAR)
    touched = np.zeros((HEIGHT, WIDTH), bool)
    touched[30:110, 40:120] = weight > 0
    np.testing.assert_array_equal(out[~touched], frame[~touched])
    head = out[30 + 27 : 30 + 53, 40 + 27 : 40 + 53]
    assert (head == 255).all()
    assert 0.1 < touched.mean() / (80 * 80 / HEIGHT / WIDTH) < 0.3


def test_the_weight_is_soft_and_ends_at_the_border() -> None:
    alpha = np.zeros((200, 200), np.float32)
    alpha[40:120, 60:140] = 1
    alpha[:50, 90:110] = 1  # hair that the square cuts
    weight = blend_weight(alpha)
    assert weight[100, 100] == 1 and weight[45, 65] == 1
    assert weight[127, 100] == 1 and weight[60, 130 + 20] == 0  # down to a chin that hung lower, not to the sides
    assert (weight[0] == 0).all() and (weight[:, 0] == 0).all()
    assert np.abs(np.diff(weight, axis=0)).max() < 0.35 and np.abs(np.diff(weight, axis=1)).max() < 0.35


def test_a_perfect_rendering_leaves_no_seam(place: ClipCrop) -> None:
    """The clip's own square, rendered at the same size, gives the frame back; at half the size little is lost."""
    frame = backdrop(5)
    square = frame[30:110, 40:120]
    alpha = np.zeros((80, 80, 1), np.uint8)
    alpha[20:60, 20:60] = 255
    np.testing.assert_array_equal(paste(frame, np.concatenate([square, alpha], -1), place), frame)
    small = cv2.resize(np.concatenate([square, alpha], -1), (40, 40), interpolation=cv2.INTER_AREA)
    assert np.abs(paste(frame, small, place).astype(int) - frame).mean() < 1.0


def test_full_frames_in_step_with_the_poses(clip: Path, place: ClipCrop, talk: np.ndarray, tmp_path: Path) -> None:
    avatar = PlacedAvatar(place)
    long = np.tile(talk, 3)  # longer than the recording: the poses turn round, and the clip with them
    video = tmp_path / "out.mp4"
    made = render_clip(avatar, long, video, folder=tmp_path / "frames", paste=clip, provenance="off")
    recorded = Player(avatar).recorded(made.frames)
    assert made.frames == 152 and np.diff(recorded).min() == -1
    for index in range(0, made.frames, 9):
        image = cv2.imread(str(tmp_path / "frames" / f"{index:06d}.png"))[..., ::-1]
        np.testing.assert_array_equal(image[:28], backdrop(int(recorded[index]) + 7)[:28])
        assert image.shape == (HEIGHT, WIDTH, 3)
    with av.open(str(video)) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (WIDTH, HEIGHT)
        assert container.streams.audio[0].rate == 48000


def test_what_cannot_be_pasted(clip: Path, place: ClipCrop, talk: np.ndarray, tmp_path: Path) -> None:
    out = tmp_path / "a.mp4"
    with pytest.raises(InputError, match="does not store its position"):
        render_clip(PlacedAvatar(None), talk, out, paste=clip)
    wide = ClipCrop(0, 0, 80, 200, 120, place.clip_frames)
    with pytest.raises(InputError, match="the clip it was made from"):
        render_clip(PlacedAvatar(wide), talk, out, paste=clip)
    late = ClipCrop(40, 30, 80, WIDTH, HEIGHT, place.clip_frames + 40)
    with pytest.raises(InputError, match="80 frames of 160 x 120"):
        render_clip(PlacedAvatar(late), talk, out, paste=clip)
    with pytest.raises(InputError, match="the clip's own background"):
        render_clip(PlacedAvatar(place), talk, out, paste=clip, background="white")
    with pytest.raises(InputError, match="there is no such file"):
        render_clip(PlacedAvatar(place), talk, out, paste=tmp_path / "nowhere.mp4")
    assert not out.exists()


def test_a_place_is_written_and_read(place: ClipCrop) -> None:
    again = ClipCrop.from_json(place.to_json(), "x")
    assert again is not None and again.to_json() == place.to_json()
    assert place.to_json()["clip_frames"] == "7-66"
    old = {name.replace("clip_frames", "pictures"): value for name, value in place.to_json().items()}
    before = ClipCrop.from_json(old, "x")
    assert before is not None and before.to_json() == place.to_json()
    numbers = np.array([0, 0, 1, 2, 2, 5, 6, 9])
    assert to_runs(numbers) == "0,0-2,2,5-6,9"
    np.testing.assert_array_equal(from_runs(to_runs(numbers)), numbers)
    assert ClipCrop.from_json(None, "x") is None
    for change in ({"side": 999}, {"clip_frames": "3-1"}, {"clip": [1]}, {"left": -1}):
        with pytest.raises(InputError, match=r"x: the framing"):
            ClipCrop.from_json(place.to_json() | change, "x")
