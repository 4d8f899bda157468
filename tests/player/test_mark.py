"""The invisible mark and the visible label in rendered frames."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from emotalking.io.images import read_image
from emotalking.player.clip import render_clip
from emotalking.player.label import label
from emotalking.player.player import Player
from emotalking.player.streaming import StreamingPlayer
from emotalking.provenance.mark import Mark
from emotalking.provenance.pattern import swing
from emotalking.provenance.payload import Payload

from .conftest import FakeAvatar


class LargeAvatar(FakeAvatar):
    """Large enough to be marked."""

    sha256 = "12345678" + "0" * 56

    def __init__(self) -> None:
        super().__init__(96, 80)


MARK = Mark(Payload(0x12345678))


def test_player_marks_finished_frames_alone(talk) -> None:
    avatar = LargeAvatar()
    plain = np.stack(list(Player(avatar).frames(talk, seconds=0.8)))
    marked = np.stack(list(Player(avatar, MARK).frames(talk, seconds=0.8)))
    signs = torch.from_numpy(swing(np.arange(len(plain)) / float(avatar.fps)))
    assert (marked == MARK(torch.from_numpy(plain), signs).numpy()).all() and (marked != plain).any()
    assert (signs < 0).any()
    matte = [list(Player(avatar, mark).frames(talk, seconds=0.2, matte=True)) for mark in (None, MARK)]
    assert (np.stack(matte[0]) == np.stack(matte[1])).all()


def test_render_marks_unless_provenance_is_off(tmp_path: Path, talk) -> None:
    avatar = LargeAvatar()
    plain = list(Player(avatar).frames(talk, seconds=0.04))[0]
    options = {"seconds": 0.04, "overwrite": True}
    render_clip(avatar, talk, folder=tmp_path / "on", **options)
    render_clip(avatar, talk, folder=tmp_path / "off", provenance="off", **options)
    render_clip(avatar, talk, folder=tmp_path / "label", label=True, **options)
    read = {name: read_image(tmp_path / name / "000000.png") for name in ("on", "off", "label")}
    assert (read["off"] == plain).all() and (read["on"] == MARK.array(plain, 0.0)).all()
    assert (read["label"] == MARK.array(label(plain), 0.0)).all()


def test_live_frames_are_marked_by_default() -> None:
    avatar = LargeAvatar()
    later = [list(itertools.islice(StreamingPlayer(avatar, provenance=choice), 21)) for choice in ("on", "off")]
    on, off = (frames[-1].image for frames in later)
    assert (on == MARK.array(np.asarray(off), 20 / float(avatar.fps))).all() and (
        on != MARK.array(np.asarray(off), 0.0)
    ).any()
    live, plain = (next(StreamingPlayer(avatar, provenance=choice)).image for choice in ("on", "off"))
    assert (live == MARK.array(np.asarray(plain), 0.0)).all() and (live != plain).any()
    assert (next(StreamingPlayer(avatar)).image == live).all()


@pytest.mark.parametrize("channels", [3, 4])
def test_label_is_in_the_lower_left_corner(channels: int) -> None:
    frame = np.zeros((200, 300, channels), np.uint8)
    made = label(frame)
    rows, columns = np.nonzero(made.any(-1))
    assert rows.min() > 160 and columns.max() < 60 and made[..., :3].max() == 255
    if channels == 4:
        assert made[..., 3].max() == 255 and made[:150, :, 3].max() == 0
    assert label(np.full((64, 64, channels), 90, np.uint8)).shape == (64, 64, channels)
