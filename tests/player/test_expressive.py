"""Motion by arousal and accents: size, tempo, blinks, smoothness, limits, and agreement with the recording."""

from functools import cache

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from emotalking.audio.accents import Accents
from emotalking.emotion.tracks import EmotionTrack
from emotalking.ops.geometry import pose_steps
from emotalking.player.expressive import JOINT, MOST_ADDED, TEMPO, ExpressiveLoop, ExpressiveMotion
from emotalking.player.player import Player
from emotalking.player.poses import PoseLoop, Poses
from emotalking.player.streaming import StreamingPlayer

FPS = 25.0


def recording(count: int = 1500) -> tuple[np.ndarray, np.ndarray]:
    """Smooth random head motion, a blink every 3 s, and brows that were raised once."""
    rng = np.random.default_rng(1)
    kernel = np.hanning(21) / np.hanning(21).sum()
    walk = np.stack([np.convolve(rng.normal(size=count + 20), kernel, "valid") for _ in range(6)], -1)
    viewmats = np.tile(np.eye(4), (count, 1, 1))
    viewmats[:, :3, :3] = Rotation.from_rotvec(walk[:, :3] * [0.15, 0.25, 0.08]).as_matrix()
    viewmats[:, :3, 3] = 0.02 * walk[:, 3:] + [0, 0, 0.7]
    aus = np.zeros((count, 6))
    for begin in range(40, count - 10, 75):
        aus[begin : begin + 6, 5] = [0.6, 1.6, 2.0, 1.4, 0.7, 0.2]
    aus[300:330, 0] = 1.0
    aus[300:330, 2] = 0.8
    return viewmats.astype(np.float32), aus.astype(np.float32)


@cache
def play(*levels: float, accents: bool = True, seed: int = 0, count: int = 2000, recorded: int = 1500) -> Poses:
    """Motion under levels of arousal that follow one another every 100 frames, and begin again."""
    viewmats, aus = recording(recorded)
    motion = ExpressiveMotion(viewmats, aus, FPS, seed=seed)
    heard = ([0.8] if accents and i % 31 == 30 else [] for i in range(count))
    made = [motion.step(0.0, levels[i // 100 % len(levels)], strengths) for i, strengths in enumerate(heard)]
    return Poses(*(np.concatenate([getattr(each, name) for each in made]) for name in ("viewmats", "aus", "indices")))


def speed(poses: Poses) -> float:
    return float(pose_steps(poses.viewmats).mean())


def blinks(poses: Poses) -> tuple[int, float]:
    """Number, and frames of closure of each in the mean."""
    shut = np.pad(poses.aus[:, 5] > 0.8, 1).astype(int)
    begins = int((np.diff(shut) == 1).sum())
    return begins, float(poses.aus[:, 5].sum()) / max(begins, 1)


def test_without_emotion_and_accents_the_head_moves_as_recorded() -> None:
    viewmats, aus = recording()
    mine, recorded = play(0.0, accents=False), PoseLoop(viewmats, aus, FPS).at(np.arange(2000))
    np.testing.assert_allclose(mine.viewmats, recorded.viewmats, atol=1e-6)
    np.testing.assert_array_equal(mine.indices, recorded.indices)
    np.testing.assert_allclose(mine.aus[:, :5], recorded.aus[:, :5], atol=1e-6)
    assert abs(blinks(mine)[0] - blinks(recorded)[0]) <= 0.35 * blinks(recorded)[0]


@pytest.mark.usefixtures("unchecked")
def test_arousal_drives_motion_and_blinks() -> None:
    calm, usual, excited = (play(level) for level in (-1.0, 0.0, 1.0))
    assert 1.3 * speed(calm) < speed(usual) < speed(excited) / 1.3
    numbers, lengths = zip(*(blinks(poses) for poses in (calm, usual, excited)), strict=True)
    assert numbers[0] < numbers[1] < numbers[2]
    assert lengths[0] > lengths[1] > lengths[2]


@pytest.mark.usefixtures("unchecked")
def test_accents_nod_and_raise_the_brows() -> None:
    with_, without = play(0.0), play(0.0, accents=False)
    turned = Rotation.from_matrix(
        without.viewmats[:, :3, :3].transpose(0, 2, 1) @ with_.viewmats[:, :3, :3]
    ).as_rotvec()
    assert turned[:, 0].max() > np.radians(1.0) and turned[:, 0].min() > -np.radians(0.05)
    assert np.abs(turned[:, 1:]).max() < np.radians(0.05)
    assert with_.aus[:, 0].mean() > without.aus[:, 0].mean() + 0.02
    assert with_.aus[:, 0].max() <= recording()[1][:, 0].max() + 1e-6
    np.testing.assert_array_equal(with_.aus[:, [1, 3, 4]], without.aus[:, [1, 3, 4]])


@pytest.mark.usefixtures("unchecked")
def test_the_head_stays_within_the_recording_and_near_its_torso() -> None:
    viewmats, _ = recording()
    poses = play(1.0)
    angles, recorded = (Rotation.from_matrix(v[:, :3, :3]).as_rotvec() for v in (poses.viewmats, viewmats))
    assert (angles.max(0) < recorded.max(0) + 0.01).all() and (angles.min(0) > recorded.min(0) - 0.01).all()
    beside = viewmats[poses.indices, :3, :3].transpose(0, 2, 1) @ poses.viewmats[:, :3, :3]
    # Between two recorded frames the pose is interpolated, the torso is the nearer one's.
    assert Rotation.from_matrix(beside).magnitude().max() < np.sqrt(3) * MOST_ADDED + 0.03
    joints = [v[:, :3, :3] @ JOINT + v[:, :3, 3] for v in (poses.viewmats, viewmats[poses.indices])]
    assert np.abs(joints[0] - joints[1]).max() < 0.005


@pytest.mark.usefixtures("unchecked")
def test_changes_are_smooth_and_nothing_drifts() -> None:
    jumping, excited = play(-1.0, 1.0), play(1.0)
    points = 0.08 * np.eye(3)

    def acceleration(poses: Poses) -> float:
        seen = np.einsum("pij,kj->pki", poses.viewmats[:, :3, :3], points) + poses.viewmats[:, None, :3, 3]
        return float(np.abs(np.diff(seen, 2, axis=0)).max())

    assert acceleration(jumping) <= 1.2 * acceleration(excited)
    there_and_back = round(2 * 399 / 2 ** (0.7 * TEMPO))
    played = play(0.7, count=5 * there_and_back, recorded=400).viewmats
    late = Rotation.from_matrix(played[-there_and_back:, :3, :3]).as_rotvec().mean(0)
    early = Rotation.from_matrix(recording(400)[0][:, :3, :3]).as_rotvec().mean(0)
    assert np.abs(late - early).max() < 0.03


def test_the_seed_decides_and_repeats() -> None:
    again = play.__wrapped__
    first, again, other = (make(0.5, seed=seed, count=300) for make, seed in ((play, 3), (again, 3), (play, 4)))
    np.testing.assert_array_equal(first.viewmats, again.viewmats)
    np.testing.assert_array_equal(first.aus, again.aus)
    assert (first.aus != other.aus).any()


@pytest.mark.parametrize("count", [1, 2, 5, 30])
def test_short_recordings(count: int) -> None:
    viewmats, aus = recording()
    motion = ExpressiveMotion(viewmats[:count], aus[:count], FPS)
    poses = [motion.step(1.0, 1.0, [1.0]) for _ in range(200)]
    assert all(np.isfinite(each.viewmats).all() and 0 <= each.indices[0] < count for each in poses)
    assert max(each.aus[0, 5] for each in poses) > 0.8


def test_a_held_head_still_blinks() -> None:
    viewmats, aus = recording()
    motion = ExpressiveMotion(viewmats, aus, FPS)
    poses = [motion.step(speed=0.0) for _ in range(500)]
    assert np.ptp([each.viewmats[0] for each in poses], axis=0).max() == 0
    assert max(each.aus[0, 5] for each in poses) > 0.8
    assert motion.coming(3, 0.0) == [poses[-1].indices[0]] * 3


def test_a_loop_goes_in_order(avatar) -> None:
    loop = ExpressiveLoop(avatar, EmotionTrack.constant(0.5, 0.5), Accents([]), 0)
    batches = [loop.at(np.arange(begin, begin + 8)) for begin in range(0, 80, 8)]
    whole = ExpressiveLoop(avatar, EmotionTrack.constant(0.5, 0.5), Accents([]), 0).at(np.arange(80))
    np.testing.assert_array_equal(np.concatenate([each.viewmats for each in batches]), whole.viewmats)
    with pytest.raises(ValueError, match="frames"):
        loop.at(np.arange(3))


def accented(seconds: float = 6.0) -> np.ndarray:
    """Two syllables a second, every fourth louder."""
    t = np.arange(int(seconds * 16000)) / 16000
    voice = sum(np.sin(2 * np.pi * 130 * k * t) / k for k in range(1, 20))
    stress = 1 + 2.0 * (np.floor(2 * t) % 4 == 3)
    return (0.05 * voice * stress * np.maximum(0.0, np.sin(4 * np.pi * t)) + 1e-6).astype(np.float32)


@pytest.mark.parametrize("look_ahead_ms", [80, 400])
def test_a_live_head_moves_as_in_a_file(avatar, look_ahead_ms: int) -> None:
    sound = accented()
    avatar.viewmats = recording(60)[0]
    options = {"look_ahead_ms": look_ahead_ms, "sample_rate": 16000, "emotion": (0.0, 0.8)}
    live = StreamingPlayer(avatar, poses="expressive", **options)
    live.push(sound, 16000)
    live.flush()
    shown = [live.conditions() for _ in range(150)]
    assert shown[0].utterance == 1 and shown[-1].ended
    here = ExpressiveLoop(avatar, EmotionTrack.constant(0.0, 0.8), Accents([sound]), 0).at(np.arange(150))
    np.testing.assert_allclose(np.stack([each.viewmat for each in shown]), here.viewmats, atol=1e-6)
    np.testing.assert_allclose(np.stack([each.aus for each in shown]), here.aus, atol=1e-6)
    still = ExpressiveLoop(avatar, EmotionTrack.constant(0.0, 0.8), None, 0).at(np.arange(150))
    assert np.abs(still.viewmats - here.viewmats).max() > 1e-3
    torsos = [int(each.torso.decode().result()[35, 0, 2]) for each in shown]
    np.testing.assert_array_equal(torsos, here.indices)
    live.set_idle(False)
    rest = [live.conditions().viewmat for _ in range(60)]
    assert np.abs(np.diff(np.stack(rest[-10:]), axis=0)).max() < 1e-6


def test_the_player_moves_expressively(avatar) -> None:
    sound = (0.1 * np.sin(np.arange(32000) * 0.1)).astype(np.float32)
    player = Player(avatar)
    track = player.audio_features(sound)
    emotion = EmotionTrack.constant(0.2, 0.9)
    first = list(player.frames(track, emotion, poses="expressive"))
    shown = list(avatar.shown)
    assert len(first) == 50
    again = list(player.frames(track, emotion, poses="expressive", batch=3))
    np.testing.assert_array_equal(np.stack(first), np.stack(again))
    indices = player.recorded(50, "expressive", emotion)
    assert set(indices) == set(shown) and len(set(indices)) > 40
    assert indices.max() > player.recorded(50).max()  # the tempo is higher
