"""Avatar and conditions to frames."""

import itertools

import numpy as np
import pytest
import torch

from emotalking.audio.features import extract_features
from emotalking.audio.tracks import FrameFeatures
from emotalking.audio.windows import audio_windows
from emotalking.data.audio_features import DEFAULT_FEATURE
from emotalking.errors import InputError
from emotalking.io.audio import SAMPLE_RATE, save_wav
from emotalking.player.backgrounds import background_plate
from emotalking.player.player import Player
from emotalking.testing.actor.performance import Performance


def test_frames_cover_the_sound(avatar, talk) -> None:
    frames = list(Player(avatar).frames(talk, batch=8))
    assert len(frames) == 51  # ceil(2.02 s * 25)
    assert all(frame.shape == (40, 48, 3) and frame.dtype == np.uint8 for frame in frames)
    assert len(list(Player(avatar).frames(talk, seconds=1.0))) == 25


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_batch_size_changes_nothing(avatar, talk, emotion, batch: int) -> None:
    here = np.stack(list(Player(avatar).frames(talk, emotion, batch=batch)))
    assert np.array_equal(here, np.stack(list(Player(avatar).frames(talk, emotion, batch=8))))


def test_conditions_arrive_in_step(avatar, talk, emotion) -> None:
    list(Player(avatar).frames(talk, emotion, batch=8))
    va = np.concatenate([call["va"] for call in avatar.calls])
    assert np.allclose(va[:, 0], 0.1 * np.arange(51) / 25, atol=1e-6)
    windows = np.concatenate([call["windows"] for call in avatar.calls])
    assert np.array_equal(windows, audio_windows(torch.from_numpy(extract_features(talk, 51, 25))))
    # 51 frames fit into the recording of 60, so that is what is played.
    assert np.allclose(np.concatenate([call["viewmats"] for call in avatar.calls]), avatar.viewmats[:51], atol=1e-6)
    assert sorted(set(avatar.shown)) == list(range(51))


def test_without_emotion_the_branch_is_off(avatar, talk) -> None:
    list(Player(avatar).frames(talk))
    assert all(call["va"] is None for call in avatar.calls)


def test_emotion_for_an_avatar_without_that_branch(avatar, talk, emotion) -> None:
    avatar.emotional = False
    with pytest.raises(InputError, match="emotion stage"):
        Player(avatar).frames(talk, emotion)


def test_torso_over_plate_under_head(avatar, talk) -> None:
    frame = list(Player(avatar).frames(talk))[17]
    assert frame[0, 0].tolist() == [10, 20, 200]
    assert frame[39, 0].tolist() == [200, 100, 17]
    assert frame[28, 0].tolist() == pytest.approx([105, 60, 108], abs=1)  # half torso, half plate
    assert frame[16, 24, 2] == 0  # head


def test_transparent_is_straight_alpha(avatar, talk) -> None:
    frames = list(Player(avatar).frames(talk, background="transparent"))
    solid = list(Player(avatar).frames(talk))
    frame = frames[17]
    assert frame.shape == (40, 48, 4)
    assert frame[0, 0, 3] == 0
    assert frame[28, 0].tolist() == pytest.approx([200, 100, 17, 128], abs=1)
    assert frame[16, 24, 3] == 255
    alpha = frame[..., 3:] / 255
    over = frame[..., :3] * alpha + avatar.background * (1 - alpha)
    assert np.abs(over - solid[17]).max() <= 1.5


def test_longer_than_the_recording(avatar, talk) -> None:
    frames = list(Player(avatar).frames(np.tile(talk, 6)))
    assert len(frames) == 303
    steps = np.abs(np.diff(np.concatenate([call["viewmats"] for call in avatar.calls])[:, 0, 3]))
    assert steps.max() <= 1.05 * np.abs(np.diff(avatar.viewmats[:, 0, 3])).max()


def test_fixed_pose(avatar, talk) -> None:
    list(Player(avatar).frames(talk, poses="fixed"))
    assert np.ptp(np.concatenate([call["viewmats"] for call in avatar.calls]), axis=0).max() == 0
    assert len(set(avatar.shown)) == 1


def test_frames_come_one_by_one(avatar, talk) -> None:
    """Only the batches around the current frame exist: the first frame comes after one rendering."""
    stream = Player(avatar).frames(np.tile(talk, 20), batch=4)
    next(stream)
    assert len(avatar.calls) == 1
    list(itertools.islice(stream, 8))
    assert len(avatar.calls) == 3


@pytest.mark.parametrize(("features", "vad"), [(DEFAULT_FEATURE, True), ("mel", True), ("mel", False)])
def test_silence_gives_a_still_mouth(avatar, features: str, vad: bool) -> None:
    """The gate closes the lips; log-mel features of silence are zero besides."""
    avatar.audio_features = features
    frames = np.stack(list(Player(avatar).frames(np.zeros(32000, np.float32), poses="fixed", vad=vad)))
    assert np.ptp(frames, axis=0).max() == 0


def test_the_first_second_of_a_long_sound_needs_little_of_it(avatar, tmp_path) -> None:
    avatar.audio_features = "mel"
    save_wav(tmp_path / "long.wav", 0.1 * np.sin(np.arange(200 * SAMPLE_RATE) * 0.1).astype(np.float32))
    player = Player(avatar)
    track = player.audio_features(tmp_path / "long.wav", seconds=1.0)
    assert track.features.num_frames(25) < 62 * 25
    for sound in (track, tmp_path / "long.wav"):
        assert len(list(player.frames(sound, seconds=1.0))) == 25


def test_bad_sound_is_refused_before_the_first_frame(avatar, tmp_path) -> None:
    (tmp_path / "words.txt").write_text("not sound")
    with pytest.raises(InputError):
        Player(avatar).frames(tmp_path / "words.txt")
    avatar.audio_features = "deepspeech"
    with pytest.raises(InputError, match="npy"):
        Player(avatar).frames(np.zeros(16000, np.float32))


def test_backgrounds(avatar, tmp_path) -> None:
    import cv2

    recorded = avatar.background
    assert background_plate(None, recorded) is recorded
    assert background_plate("transparent", recorded) == "transparent"
    assert (background_plate("#00ff00", recorded) == (0, 255, 0)).all()
    assert (background_plate("white", recorded) == 255).all()
    assert (background_plate((1, 2, 3), recorded) == (1, 2, 3)).all()
    wide = np.zeros((20, 100, 3), np.uint8)
    wide[:, :50] = (255, 0, 0)
    cv2.imwrite(str(tmp_path / "wide.png"), cv2.cvtColor(wide, cv2.COLOR_RGB2BGR))
    plate = background_plate(tmp_path / "wide.png", recorded)
    assert plate.shape == (40, 48, 3)
    assert plate[5, 2].tolist() == [255, 0, 0] and plate[5, 45].tolist() == [0, 0, 0]
    (tmp_path / "words.png").write_text("no picture")
    for bad in ("no-such-colour", str(tmp_path / "words.png"), str(tmp_path / "missing.png"), (1, 2, 300)):
        with pytest.raises(InputError, match="background"):
            background_plate(bad, recorded)


def test_the_gate_follows_the_sound(avatar) -> None:
    speech = Performance.generate(3.0, seed=5).waveform
    sound = np.concatenate([np.zeros(32000, np.float32), speech, np.zeros(32000, np.float32)])
    list(Player(avatar).frames(sound))
    gate = np.concatenate([call["speech"] for call in avatar.calls])
    assert gate.shape == (175,)
    assert not gate[:42].any() and not gate[132:].any()
    assert gate[60:115].mean() > 0.8
    # The sound is heard even where its features come from elsewhere; features alone tell of no silence.
    track = Player(avatar).audio_features(speech).features
    assert (
        Player(avatar).audio_features(speech, FrameFeatures(track.frames(np.arange(75), 25), 25.0)).voice_activity
        is not None
    )
    avatar.calls.clear()
    list(Player(avatar).frames(track))
    list(Player(avatar).frames(sound, vad=False))
    avatar.closes_lips = False
    list(Player(avatar).frames(sound))
    assert all(call["speech"] is None for call in avatar.calls)


def test_features_of_another_recording_are_refused(avatar) -> None:
    speech = Performance.generate(3.0, seed=5).waveform
    rows = Player(avatar).audio_features(speech).features.frames(np.arange(75), 25)
    with pytest.raises(InputError, match=r"features last 2\.0 s and the sound 3\.0 s"):
        Player(avatar).audio_features(speech, FrameFeatures(rows[:50], 25.0))
    with pytest.raises(InputError, match="give features of this one"):
        Player(avatar).audio_features(speech[:32000], FrameFeatures(rows, 25.0))
    Player(avatar).audio_features(speech, FrameFeatures(rows, 25.0), seconds=1.0)
