"""Live frames over time: idle motion, glides, interruptions, long sound, equality with the offline player."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch

from emotalking.audio.features import feature_track
from emotalking.audio.streams import PendingWindow
from emotalking.emotion.tracks import EmotionTrack
from emotalking.player import streaming
from emotalking.player.idle import POSE_LIMITS, LiveMotion
from emotalking.player.player import Player
from emotalking.player.streaming import FrameConditions, StreamingPlayer, render_batch

RATE = 16000


def conditions(player: StreamingPlayer, count: int) -> list[FrameConditions]:
    return [player.conditions() for _ in range(count)]


class Injected:
    """Ready features as a stream."""

    def __init__(self, track, total: int) -> None:
        self.track, self.total = track, total

    def push(self, samples: np.ndarray) -> None: ...

    def finish(self) -> None: ...

    def window(self, frame: int, fps: Fraction) -> PendingWindow:
        value = self.track.windows(frame, frame + 1, fps, self.total)[0]
        return PendingWindow(value)


@pytest.mark.parametrize("background", [None, "transparent"])
def test_frames_are_the_offline_players_where_the_features_are(avatar, talk, emotion, monkeypatch, background) -> None:
    avatar.closes_lips = False  # the live gate knows less than the offline one
    sound = np.tile(talk, 2)
    track = feature_track(sound, avatar.audio_features)
    monkeypatch.setattr(streaming, "feature_streams", lambda *_: lambda: Injected(track, 101))
    player = StreamingPlayer(avatar, emotion=emotion, background=background)
    player.push(sound, RATE)
    player.flush()
    live = [frame.image for frame in itertools.islice(player, 101)]
    offline = list(Player(avatar).frames(track, emotion, background=background))
    assert np.array_equal(np.stack(live), np.stack(offline))


def test_pieces_of_the_sound_change_nothing(avatar, talk) -> None:
    def images(pieces: list[np.ndarray]) -> np.ndarray:
        player = StreamingPlayer(avatar)
        for piece in pieces:
            player.push(piece, 24000)
        player.flush()
        return np.stack([frame.image for frame in itertools.islice(player, 20)])

    sound = talk[:12000]
    whole = images([sound])
    assert np.array_equal(images(list(sound[:, None])), whole)
    assert np.array_equal(images(np.array_split(sound, 13)), whole)


def test_minutes_at_once_cost_a_frame_no_more(avatar, talk, monkeypatch) -> None:
    heard = []
    real = streaming.Spoken.next_frame

    def counted(self, count: int):
        before = self._fed
        frame = real(self, count)
        heard.append(self._fed - before)
        return frame

    monkeypatch.setattr(streaming.Spoken, "next_frame", counted)
    player = StreamingPlayer(avatar, look_ahead_ms=80)
    player.push(np.tile(talk, 200), 24000)
    conditions(player, 10)
    assert heard[0] == 640 + 1280 and set(heard[1:]) == {640}
    assert player.queued_s == pytest.approx(200 * len(talk) / 24000 - 0.4)


def test_an_interruption_shuts_the_lips_in_80_ms_and_a_new_utterance_begins_smoothly(avatar, talk) -> None:
    player = StreamingPlayer(avatar, sample_rate=RATE, look_ahead_ms=80)
    player.push(np.tile(talk, 3), RATE)
    before = conditions(player, 20)[-1]
    assert before.gate == 1
    player.clear()
    after = conditions(player, 2)
    assert [one.gate for one in after] == [0.5, 0] and not any(one.audio.any() for one in after)
    # What is fading is what was shown; no sound that was pushed and not played is seen.
    assert [window for window, _ in after[0].mouth] == [window for window, _ in before.mouth]
    assert after[1].mouth == ()
    player.push(np.tile(talk, 3), RATE)
    conditions(player, 20)
    player.clear()
    player.push(talk[4000:], RATE)
    both = conditions(player, 1)[0]
    assert both.utterance == 3 and both.mouth[0][1] >= 0.5 <= both.gate
    assert sum(share for _, share in both.mouth) == pytest.approx(1.0)


def test_lips_close_after_the_last_sound_within_a_fifth_of_a_second(avatar, talk) -> None:
    player = StreamingPlayer(avatar, sample_rate=RATE)
    player.push(talk[: RATE * 6 // 10], RATE)
    player.flush()
    spoken = conditions(player, 15)
    gates = [spoken[-1].gate, *(one.gate for one in conditions(player, 6))]
    assert spoken[-1].ended and gates[0] > 0.5 and gates[-1] == 0
    assert 0 < -np.diff(gates).min() <= 0.4 and np.diff(gates).max() <= 0


@pytest.mark.parametrize("closes", [True, False])
def test_images_do_not_jump_at_the_borders_of_speech(avatar, talk, closes: bool) -> None:
    avatar.closes_lips = closes
    player = StreamingPlayer(avatar, poses="fixed")
    images = [frame.image for frame in itertools.islice(player, 4)]
    player.push(talk[:24000], RATE)
    images += [frame.image for frame in itertools.islice(player, 20)]
    player.clear()
    images += [frame.image for frame in itertools.islice(player, 6)]
    steps = np.abs(np.diff(np.stack(images).astype(int), axis=0)).max((1, 2, 3))
    inside, borders = steps[6:22].max(), np.concatenate([steps[2:5], steps[22:]])
    assert borders.max() <= max(inside, 0.6 * np.stack(images).astype(int)[:, 16, 24, 0].max())
    assert steps[-3:].max() == 0


def test_the_head_comes_to_rest_and_moves_on_without_a_jump(avatar) -> None:
    player = StreamingPlayer(avatar)
    found = conditions(player, 10)
    player.set_idle(False)
    found += conditions(player, 110)
    still = np.stack([one.viewmat for one in found[40:120]])
    assert np.ptp(still, axis=0).max() == 0
    assert max(one.aus[5] for one in found[40:120]) > 1  # blinks go on
    player.set_idle(True)
    found += conditions(player, 60)
    path = np.stack([one.viewmat for one in found])[:, 0, 3]
    assert np.abs(np.diff(path)).max() <= 1.05 * np.abs(np.diff(avatar.viewmats[:, 0, 3])).max()
    assert np.ptp(path[140:]) > 0.01


def test_a_turn_glides_about_the_heads_own_origin(avatar) -> None:
    player = StreamingPlayer(avatar, poses="fixed")
    first = conditions(player, 1)[0].viewmat
    player.set_pose(yaw=POSE_LIMITS["yaw"], pitch=0.05)
    turned = [one.viewmat for one in conditions(player, 20)]
    face = np.array([0.0, 0.0, 0.1, 1.0])
    places = np.stack([viewmat @ face for viewmat in [first, *turned]])
    assert places[-1, 0] > places[0, 0] + 0.01  # to the viewer's right
    assert places[-1, 1] > places[0, 1] + 0.004  # up: this camera has the head's axes
    assert np.abs(np.diff(places, axis=0)).max() < 0.3 * np.abs(places[-1] - places[0]).max()
    assert np.allclose(turned[-1][:3, 3], first[:3, 3], atol=1e-6)


def test_emotions_glide_and_tracks_begin_when_they_are_set(avatar) -> None:
    player = StreamingPlayer(avatar, emotion=(0.5, 0.0))
    assert conditions(player, 1)[0].va == pytest.approx([0.5, 0.0])
    player.set_emotion((-0.5, 0.4), seconds=0.4)
    path = np.stack([one.va for one in conditions(player, 12)])
    assert np.abs(np.diff(path[:, 0], prepend=0.5)).max() < 0.2 and path[-1] == pytest.approx([-0.5, 0.4])
    player.set_emotion(EmotionTrack(np.array([0.0, 1.0]), np.array([[0.0, 0.0], [1.0, 0.0]])), seconds=0.0)
    track = np.stack([one.va for one in conditions(player, 26)])
    assert track[0] == pytest.approx([0, 0]) and track[25] == pytest.approx([1, 0])
    player.set_emotion(None, seconds=0.2)
    path = [one.va for one in conditions(player, 6)]
    assert path[0] is not None and path[0][0] > 0.5 and path[-1] is None


def test_days_change_nothing(avatar, talk) -> None:
    """The clock of a month: exact sound, and motion as at the beginning."""
    player = StreamingPlayer(avatar, sample_rate=22050)
    avatar.fps = Fraction(30000, 1001)
    player = StreamingPlayer(avatar, sample_rate=22050)
    player.index = month = 30 * 86400 * 30
    player.push(talk, 22050)
    player.flush()
    frames = conditions(player, 90)
    sound = np.concatenate([one.audio for one in frames if one.utterance])
    assert np.array_equal(sound[: len(talk)], talk)
    total = sum(len(one.audio) for one in frames)
    assert abs(total - 90 * 22050 * 1001 / 30000) < 1 and frames[-1].index == month + 89
    motion = LiveMotion(avatar, "recorded", 0)
    motion._face = motion._head = float(month)
    steps = np.diff(np.stack([motion.step().viewmats[0, 0, 3] for _ in range(100)]))
    assert 0 < np.abs(steps).max() <= 1.05 * np.abs(np.diff(avatar.viewmats[:, 0, 3])).max()


def test_an_endless_utterance_is_kept_in_constant_memory(avatar, talk) -> None:
    player = StreamingPlayer(avatar, sample_rate=RATE)
    sizes = []
    for _ in range(4):
        for piece in np.split(np.tile(talk, 2)[:64000], 100):
            player.push(piece, RATE)
            player.conditions().torso.decode()
        spoken = player._utterances[0]
        arrays = [*vars(spoken._features).values(), *vars(spoken._gate).values()]
        held = sum(value.nbytes for value in arrays if isinstance(value, np.ndarray))
        sizes.append(held + 4 * (len(spoken._heard._raw) + len(spoken._played._raw)))
    assert max(sizes[1:]) <= sizes[0] * 1.05 and 1 <= len(player._torsos._known) <= 3


def test_images_can_stay_on_the_device(avatar, talk) -> None:
    player = StreamingPlayer(avatar)
    made = conditions(player, 2)
    tensors, arrays = render_batch(made, on_device=True), render_batch(made)
    for tensor, array in zip(tensors, arrays, strict=True):
        assert isinstance(tensor, torch.Tensor) and tensor.dtype == torch.uint8
        assert np.array_equal(tensor.numpy(), array)


def test_frames_that_are_not_rendered_have_their_sound(avatar, talk) -> None:
    player = StreamingPlayer(avatar, sample_rate=RATE)
    player.push(talk, RATE)
    dropped = [player.finish(one, None) for one in conditions(player, 5)]
    assert all(frame.image is None for frame in dropped) and not avatar.calls
    assert np.array_equal(np.concatenate([frame.audio for frame in dropped]), talk[:3200])
    shown = next(player)
    assert shown.index == 5 and shown.position_s == pytest.approx(0.24)


def test_heads_with_other_seeds_move_differently(avatar) -> None:
    paths = [np.stack([one.viewmat[0, 3] for one in conditions(StreamingPlayer(avatar, seed=s), 30)]) for s in (0, 1)]
    assert np.allclose(paths[0], avatar.viewmats[:30, 0, 3], atol=1e-6) and not np.allclose(*paths, atol=1e-3)
