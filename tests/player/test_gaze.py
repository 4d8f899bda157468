"""Where the eyes look."""

from dataclasses import replace

import numpy as np
import pytest

from emotalking.data.gaze import camera_direction
from emotalking.emotion.tracks import EmotionTrack
from emotalking.errors import InputError
from emotalking.player.gaze import Eyes, recorded_glances
from emotalking.player.idle import LiveMotion
from emotalking.player.player import Player
from emotalking.player.streaming import StreamingPlayer, render_batch

FPS = 25.0


def recorded(count: int = 500, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Views of a head that stands still, and glances that rest for half a second about the camera."""
    rng = np.random.default_rng(seed)
    views = np.tile(np.diag([1.0, -1.0, -1.0, 1.0]), (count, 1, 1))
    views[:, 2, 3] = 0.7
    places = rng.normal(0, [0.06, 0.03], (count // 12 + 1, 2))
    return np.repeat(places, 12, 0)[:count] + rng.normal(0, 0.001, (count, 2)), views


@pytest.fixture
def eyed(avatar):
    gaze, views = recorded(len(avatar.viewmats))
    avatar.viewmats = views.astype(np.float32)
    avatar.viewmats[:, 0, 3] = np.linspace(0, 0.02, len(views))
    avatar.gaze = (gaze + camera_direction(avatar.viewmats)).astype(np.float32)
    return avatar


def play(eyes: Eyes, view: np.ndarray, frames: int, arousal: float = 0.0) -> np.ndarray:
    return np.array([eyes.step(view, arousal) for _ in range(frames)])


def test_eyes_stay_on_the_camera_with_small_saccades_of_the_clip() -> None:
    gaze, views = recorded()
    path = play(Eyes(gaze, views, FPS, seed=3), views[0], 2000)
    spread = path.std(0)
    assert (np.abs(np.median(path, 0)) < 0.02).all() and (spread > 0.005).all() and (spread < 0.6 * gaze.std(0)).all()
    still = np.abs(np.diff(path, axis=0)).max(1) == 0
    assert 0.7 < still.mean() < 0.97, "fixations, with short passages between them"
    assert np.array_equal(path, play(Eyes(gaze, views, FPS, seed=3), views[0], 2000))
    assert not np.array_equal(path, play(Eyes(gaze, views, FPS, seed=4), views[0], 2000))


def test_excited_eyes_are_steadier() -> None:
    gaze, views = recorded()
    calm, excited = (play(Eyes(gaze, views, FPS, seed=1), views[0], 3000, arousal) for arousal in (-0.8, 0.8))
    passages = [int((np.abs(np.diff(path, axis=0)).max(1) > 0).sum()) for path in (calm, excited)]
    assert passages[1] < 0.7 * passages[0] and (excited.std(0) < calm.std(0)).all()


def test_eyes_glide_to_what_the_clip_shows_and_no_further() -> None:
    gaze, views = recorded()
    eyes = Eyes(gaze, views, FPS)
    eyes.look(1.0, -1.0)
    path = play(eyes, views[0], 100)
    low, high = gaze.min(0), gaze.max(0)
    assert np.abs(np.diff(path[:6], axis=0)).max() < 0.8 * high[0], "no jump"
    assert path[10:, 0].max() <= eyes.high[0] < 1.3 * high[0] and path[10:, 0].min() > 0.5 * high[0]
    assert path[10:, 1].min() >= eyes.low[1] > 1.3 * low[1] and path[10:, 1].max() < 0.5 * low[1]
    for wrong in (1.5, np.nan):
        with pytest.raises(InputError, match="from -1 to 1"):
            eyes.look(wrong, 0.0)


def test_eyes_that_learned_it_look_further_aside_than_the_clip_shows(eyed) -> None:
    gaze, views = recorded()
    eyes = Eyes(gaze, views, FPS, reach=0.35)
    eyes.look(-1.0, 0.0)
    assert play(eyes, views[0], 50)[10:, 0].max() < -0.3 and eyes.low[0] == -0.35 and eyes.high[0] == 0.35
    plain = Eyes(gaze, views, FPS)
    assert (eyes.low[1], eyes.high[1]) == (plain.low[1], plain.high[1])
    wide = Eyes(4.0 * gaze, views, FPS, reach=0.2)
    assert wide.low[0] < -0.2 and wide.high[0] > 0.2, "and never less far"
    player = StreamingPlayer(eyed, provenance="off")
    before = [player.conditions().gaze for _ in range(1)][0]
    eyed.gaze_reach = 0.35
    player = StreamingPlayer(eyed, provenance="off")
    player.set_gaze(1.0, 0.0)
    after = [player.conditions().gaze for _ in range(12)][-1]
    assert before is not None and after is not None and after[0] > 0.28


def test_eyes_turn_against_the_head_within_their_limits(eyed) -> None:
    motion = LiveMotion(eyed, "fixed", 1)
    assert motion._eyes is not None
    before = np.mean([motion.step().gaze for _ in range(50)], 0)[0]
    motion.turn(0.05, 0.0, 0.0)
    steps = [motion.step() for _ in range(60)][20:]
    after = np.mean([step.gaze for step in steps], 0)[0]
    turned = camera_direction(steps[-1].viewmats)[0]
    assert before[0] - after[0] == pytest.approx(0.05, abs=0.03) and abs(turned[0] - after[0]) < 0.03
    assert all((step.gaze >= motion._eyes.low - 1e-6).all() for step in steps)


def test_a_live_player_is_told_where_to_look(eyed) -> None:
    player = StreamingPlayer(eyed, provenance="off")
    player.set_gaze(1.0, 0.0)
    frames = [player.conditions() for _ in range(12)]
    assert frames[-1].gaze is not None and frames[-1].gaze[0] > frames[0].gaze[0] + 0.01
    render_batch(frames[-2:])
    np.testing.assert_allclose(eyed.calls[-1]["gaze"].numpy(), [frame.gaze for frame in frames[-2:]])
    with pytest.raises(InputError, match="-1 to 1"):
        player.set_gaze(2.0, 0.0)


def test_an_avatar_without_gaze_says_so_and_plays_as_before(avatar, talk) -> None:
    player = StreamingPlayer(avatar, provenance="off")
    with pytest.raises(InputError, match="cannot be steered"):
        player.set_gaze(0.5, 0.0)
    assert player.conditions().gaze is None and recorded_glances(avatar) is None
    with pytest.raises(InputError, match="cannot be steered"):
        Player(avatar).frames(talk, gaze=EmotionTrack.constant(0.0, 0.0))
    list(Player(avatar).frames(talk, seconds=0.2))
    assert avatar.calls[-1]["gaze"] is None


def gazes(avatar, sound, **options: object) -> np.ndarray:
    avatar.calls.clear()
    list(Player(avatar).frames(sound, seconds=1.0, **options))
    return np.concatenate([call["gaze"].numpy() for call in avatar.calls])


@pytest.mark.parametrize("poses", ["recorded", "expressive", "fixed"])
def test_offline_the_recorded_gaze_is_played_or_what_a_track_says(eyed, talk, poses: str) -> None:
    shown = gazes(eyed, talk, poses=poses)
    if poses == "recorded":
        np.testing.assert_allclose(shown, eyed.gaze[: len(shown)], atol=1e-6)
    else:
        assert shown.shape == (25, 2) and np.ptp(shown, 0).min() > 0
    times = replace(
        EmotionTrack.constant(0.0, 0.0),
        times=np.array([0.0, 0.3, 0.5]),
        values=np.array([[-1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]]),
    )
    steered = gazes(eyed, talk, poses=poses, gaze=times)
    assert steered[15:, 0].min() > steered[:5, 0].max()
    assert np.array_equal(steered, gazes(eyed, talk, poses=poses, gaze=times, batch=3))
