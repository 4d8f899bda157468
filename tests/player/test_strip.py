"""The strip of mouths above sounds and words."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from emotalking.errors import InputError
from emotalking.models.avatar import Avatar
from emotalking.models.config import BranchConfig, ModelConfig
from emotalking.models.gaussians import Gaussians
from emotalking.models.head import TalkingHead
from emotalking.ops.box import Box
from emotalking.player.clip import render_clip
from emotalking.player.strip import CELL, COLUMNS, LONGEST_S, Strip, draw_strip, mouth_box
from emotalking.tts.base import TimedLabel, Utterance

from ..scenes import still_scene

FPS = 25.0


def pictures(count: int) -> list[np.ndarray]:
    """Frame f is grey of level f."""
    return [np.full((CELL, CELL, 3), index, np.uint8) for index in range(count)]


def inked(image: np.ndarray) -> np.ndarray:
    """Columns with something dark in them."""
    return np.flatnonzero((image < 100).any((0, 2)))


def test_frames_stand_on_a_time_axis_with_their_sounds_beneath() -> None:
    sounds = (TimedLabel("iː", 0.08, 0.20), TimedLabel("ʃ", 0.20, 0.32))
    page = draw_strip(pictures(8), FPS, np.zeros(5120, np.float32), (TimedLabel("she", 0.08, 0.32),), sounds)
    left = np.flatnonzero((page[CELL // 2] != 255).any(1))[0]
    for index in range(8):
        assert (page[CELL, left + index * CELL + CELL // 2] == index).all()
    band = page[CELL + 12 : CELL + 28, left:]
    shaded = np.flatnonzero((band[8] != 255).any(1))
    assert abs(shaded[0] - 2 * CELL) <= 1 and abs(shaded[-1] - 8 * CELL) <= 2
    ink = inked(band)
    first, second = ink[ink < 5 * CELL], ink[ink >= 5 * CELL]
    assert abs(first.mean() - 3.5 * CELL) < 4 and abs(second.mean() - 6.5 * CELL) < 4


def test_larger_frames_in_shorter_rows() -> None:
    cuts = [np.full((120, 120, 3), index, np.uint8) for index in range(5)]
    page = draw_strip(cuts, 3.0, np.zeros(30000, np.float32), (TimedLabel("happy", 0.0, 1.0),), columns=3)
    assert page.shape[1] == 3 * 120 + 16
    pitch = (page.shape[0] - 16) // 2
    assert [int(page[8 + 60 + at // 3 * pitch, 8 + 60 + at % 3 * 120, 0]) for at in range(5)] == list(range(5))
    assert (page[8 + 120 + 4, 8:-9] != 255).any(-1).mean() > 0.98  # the word lasts as long as the row


def test_a_sound_goes_on_in_the_next_row_and_unknown_times_leave_no_band() -> None:
    count = COLUMNS + 4
    crossing = (TimedLabel("a", (COLUMNS - 2) / FPS, (COLUMNS + 2) / FPS),)
    page = draw_strip(pictures(count), FPS, np.ones(count * 640, np.float32), None, crossing)
    plain = draw_strip(pictures(count), FPS, np.ones(count * 640, np.float32))
    rows = 2
    band = (page.shape[0] - plain.shape[0]) // rows
    assert band > 10
    pitch = (page.shape[0] - 16) // rows
    upper, lower = (page[8 + row * pitch + CELL + 8] for row in range(rows))
    assert abs((upper != 255).any(1).sum() - 2 * CELL) <= 2 and abs((lower != 255).any(1).sum() - 2 * CELL) <= 2


def test_a_sound_that_ends_within_a_pixel_of_a_rows_begin_is_drawn() -> None:
    crossing = (TimedLabel("a", 0.5, COLUMNS / FPS + 1e-4),)
    page = draw_strip(pictures(COLUMNS + 4), FPS, np.zeros(2 * COLUMNS * 640, np.float32), None, crossing)
    assert page.shape[0] > 2 * CELL


def test_the_wave_follows_the_sound() -> None:
    samples = np.zeros(4 * 640, np.float32)
    samples[2 * 640 :] = np.sin(np.arange(2 * 640))
    page = draw_strip(pictures(4), FPS, samples)[CELL + 8 :]
    height = (page < 200).any(2).sum(0)
    assert height[8 : 8 + 2 * CELL].max() <= 1 and height[10 + 2 * CELL : 4 + 4 * CELL].min() > 15


def test_chinese_words_become_dots_and_phonetic_signs_are_drawn() -> None:
    base = draw_strip(pictures(3), FPS, np.zeros(1920, np.float32), (TimedLabel("·", 0.0, 0.12),))
    same = draw_strip(pictures(3), FPS, np.zeros(1920, np.float32), (TimedLabel("你", 0.0, 0.12),))
    assert np.array_equal(base, same)
    drawn = [
        draw_strip(pictures(3), FPS, np.zeros(1920, np.float32), None, (TimedLabel(sign, 0.0, 0.12),))
        for sign in "ʃʒθðŋɲʁɥœɑ"
    ]
    assert len({picture.tobytes() for picture in drawn}) == 10


@pytest.mark.parametrize("background", [None, "transparent"])
def test_a_rendering_writes_its_strip(avatar, talk: np.ndarray, tmp_path: Path, background: str | None) -> None:
    said = Utterance("one two", "en", "m3", talk, (TimedLabel("one", 0.1, 0.9),), (TimedLabel("w", 0.1, 0.5),))
    shown: list[int] = []
    made = render_clip(
        avatar, said, strip=tmp_path / "strip.png", background=background, progress=lambda done, _: shown.append(done)
    )
    assert made.strip == tmp_path / "strip.png" and made.video is None and made.frames == 51 == len(shown)
    page = cv2.imread(str(made.strip))
    rows = -(-51 // COLUMNS)
    assert page is not None and page.shape[1] == COLUMNS * CELL + 16 and page.shape[0] > rows * CELL


def test_alone_it_renders_only_what_it_shows(avatar, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 12 * 16000).astype(np.float32)
    assert render_clip(avatar, noise, strip=tmp_path / "strip.jpg").seconds == LONGEST_S
    assert render_clip(avatar, noise, strip=tmp_path / "strip.jpg", seconds=1.0).frames == 25
    with pytest.raises(InputError, match="nothing to write"):
        render_clip(avatar, noise)
    with pytest.raises(InputError, match=r"\.png or \.jpg"):
        Strip(tmp_path / "strip.gif", avatar)


def test_the_box_holds_the_mouth(avatar) -> None:
    assert mouth_box(avatar) == Box(0.0, 4.0, 40.0, 44.0)  # no mouth to look at: the square in the middle


def test_the_box_of_an_avatar_is_about_its_mouth() -> None:
    torch.manual_seed(0)
    face, mouth = torch.randn(50, 3) * 0.05, (torch.rand(200, 3) - 0.5) * 0.02
    mouth[:, 1] -= 0.03
    config = ModelConfig(face=BranchConfig(50, sh_degree=0), mouth=BranchConfig(200, sh_degree=0, hidden=32))
    colours = (torch.zeros(50, 3), torch.zeros(200, 3))
    head = TalkingHead(config, Gaussians(face, colours[0], 0), Gaussians(mouth, colours[1], 0))
    box = mouth_box(Avatar(head, still_scene(200, 160, distance=0.5, focal=400.0)))
    # The mouth is 0.02 wide at 0.5: 16 pixels, 24 pixels under the centre.
    assert box.width == pytest.approx(box.height) and 30 < box.width < 42
    assert box.centre == (pytest.approx(100, abs=2), pytest.approx(104, abs=2))
