"""Endless poses from a short recording."""

import numpy as np
import pytest

from emotalking.ops.geometry import pose_steps, stretches
from emotalking.player.poses import PoseLoop, interpolate_poses, longest_stretch, turning_points, usual_pose


def about(axis: int, angle: np.ndarray) -> np.ndarray:
    """Rotation matrices about a coordinate axis."""
    out = np.tile(np.eye(3), (len(angle), 1, 1))
    i, j = [k for k in range(3) if k != axis]
    out[:, i, i] = out[:, j, j] = np.cos(angle)
    out[:, i, j], out[:, j, i] = -np.sin(angle), np.sin(angle)
    return out


def recording(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Smooth random head motion (about 0.1 rad, 1 cm) and a blink every 3 s."""
    rng = np.random.default_rng(seed)
    kernel = np.hanning(25) / np.hanning(25).sum()
    walk = np.stack([np.convolve(rng.normal(size=count + 24), kernel, "valid") for _ in range(6)], -1)
    viewmats = np.tile(np.eye(4), (count, 1, 1))
    viewmats[:, :3, :3] = about(0, 0.2 * walk[:, 0]) @ about(1, 0.3 * walk[:, 1]) @ about(2, 0.1 * walk[:, 2])
    viewmats[:, :3, 3] = 0.02 * walk[:, 3:] + [0, 0, 0.7]
    aus = np.zeros((count, 6))
    aus[np.arange(count) % 75 < 4, 5] = 2.0
    return viewmats.astype(np.float32), aus.astype(np.float32)


@pytest.mark.parametrize("count", [8, 30, 125, 1775])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_loop_never_jumps(count: int, seed: int) -> None:
    viewmats, aus = recording(count, seed)
    poses = PoseLoop(viewmats, aus, 25).at(np.arange(5 * count + 7))
    recorded = pose_steps(viewmats)
    looped = pose_steps(poses.viewmats)
    assert looped.max() <= 1.05 * recorded.max()
    # Nor does the velocity jump: turning costs little more than the recording's own changes of speed.
    points = 0.08 * np.eye(3)

    def jerk(views: np.ndarray) -> float:
        seen = np.einsum("pij,kj->pki", views[:, :3, :3], points) + views[:, None, :3, 3]
        return float(np.abs(np.diff(seen, 2, axis=0)).max())

    if count >= 125:
        assert jerk(poses.viewmats) <= 1.5 * jerk(viewmats)


@pytest.mark.parametrize("total", [None, 90, 900])
def test_an_edited_recording_is_played_between_its_cuts(total: int | None) -> None:
    viewmats, aus = recording(300, 4)
    viewmats[100:, 0, 3] += 0.05  # two cuts: the stretch between them is the longest
    viewmats[230:, 1, 3] -= 0.03
    assert stretches(viewmats) == [(0, 100), (100, 230), (230, 300)]
    assert longest_stretch(viewmats) == (100, 230)
    poses = PoseLoop(viewmats, aus, 25).at(np.arange(total or 900), total)
    assert poses.indices.min() >= 100 and poses.indices.max() < 230
    assert pose_steps(poses.viewmats).max() <= 1.05 * pose_steps(viewmats[100:230]).max()


def test_gestures_are_no_cuts() -> None:
    viewmats, _ = recording(300, 5)
    viewmats[150:156, 0, 3] += np.linspace(0, 0.05, 6)
    viewmats[156:, 0, 3] += 0.05
    assert longest_stretch(viewmats) == (0, 300)


@pytest.mark.parametrize("count", [8, 125])
def test_index_and_pose_go_together(count: int) -> None:
    viewmats, aus = recording(count)
    poses = PoseLoop(viewmats, aus, 25).at(np.arange(6 * count))
    assert poses.indices.min() >= 0 and poses.indices.max() < count
    assert np.abs(np.diff(poses.indices)).max() <= 1
    # The pose lies within half a recorded step of the pose of its index.
    gap = np.abs(poses.viewmats - viewmats[poses.indices])[:, :3].max()
    assert gap <= 0.51 * np.abs(np.diff(viewmats, axis=0)).max() + 1e-6
    assert poses.viewmats.dtype == np.float32 and poses.aus.dtype == np.float32


def test_all_of_the_recording_is_used_and_blinks_come_along() -> None:
    viewmats, aus = recording(300)
    poses = PoseLoop(viewmats, aus, 25).at(np.arange(1800))
    assert len(np.unique(poses.indices)) > 0.7 * 300
    blinks = (np.diff((poses.aus[:, 5] > 1).astype(int)) > 0).sum()
    assert 1800 / 75 * 0.6 < blinks < 1800 / 75 * 1.5
    calm = np.abs(poses.viewmats - viewmats[poses.indices])[:, :3].max((1, 2)) < 1e-6
    assert np.array_equal(poses.aus[calm], aus[poses.indices[calm]])


def test_a_short_output_is_the_recording_itself() -> None:
    viewmats, aus = recording(50)
    poses = PoseLoop(viewmats, aus, 25).at(np.arange(50), total=50)
    assert np.array_equal(poses.indices, np.arange(50))
    assert np.abs(poses.viewmats - viewmats).max() < 1e-6


def test_begins_with_the_recording() -> None:
    viewmats, aus = recording(200)
    poses = PoseLoop(viewmats, aus, 25).at(np.arange(1000), total=1000)
    assert np.array_equal(poses.indices[:150], np.arange(150))


def test_batches_join() -> None:
    viewmats, aus = recording(40)
    loop = PoseLoop(viewmats, aus, 25)
    whole = loop.at(np.arange(333))
    parts = [loop.at(np.arange(start, min(start + 7, 333))) for start in range(0, 333, 7)]
    assert np.array_equal(whole.viewmats, np.concatenate([part.viewmats for part in parts]))


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_tiny_recordings(count: int) -> None:
    viewmats, aus = recording(count)
    poses = PoseLoop(viewmats, aus, 25).at(np.arange(50))
    assert np.isfinite(poses.viewmats).all() and poses.indices.max() < count


def test_fixed_head_still_blinks() -> None:
    viewmats, aus = recording(200)
    poses = PoseLoop(viewmats, aus, 25, fixed=True).at(np.arange(700))
    assert np.ptp(poses.viewmats, axis=0).max() == 0 and len(np.unique(poses.indices)) == 1
    assert np.array_equal(poses.viewmats[0], viewmats[poses.indices[0]])
    assert (poses.aus[:, 5] > 1).any() and (poses.aus[:, 5] < 0.1).any()
    assert aus[usual_pose(viewmats, aus), 5] == 0


def test_turns_where_the_head_rests() -> None:
    viewmats, aus = recording(200)
    viewmats[8:20] = viewmats[8]
    viewmats[180:192] = viewmats[180]
    low, high = turning_points(viewmats, aus, 25)
    assert 8 <= low <= 20 and 180 <= high <= 192


def test_half_way_between_two_poses() -> None:
    viewmats = np.tile(np.eye(4), (2, 1, 1))
    viewmats[1, :3, :3] = about(1, np.array([0.5]))[0]
    viewmats[1, 0, 3] = 2.0
    half = interpolate_poses(viewmats, np.array([0.5]))[0]
    assert np.allclose(half[:3, :3], about(1, np.array([0.25]))[0], atol=1e-6)
    assert np.allclose(half[:3, 3], [1.0, 0, 0])


def test_wrong_lengths() -> None:
    viewmats, aus = recording(5)
    with pytest.raises(ValueError, match="as many"):
        PoseLoop(viewmats[:0], aus[:0], 25)


@pytest.mark.parametrize("count", [1, 2, 5, 60])
@pytest.mark.parametrize("fixed", [False, True])
def test_single_frames_are_those_of_many(count: int, fixed: bool) -> None:
    rng = np.random.default_rng(count)
    viewmats = np.tile(np.eye(4, dtype=np.float32), (count, 1, 1))
    viewmats[:, :3, 3] = rng.normal(size=(count, 3)) * 1e-3
    loop = PoseLoop(viewmats, rng.random((count, 6)).astype(np.float32), 25, fixed=fixed)
    frames = np.array([*range(6 * count + 60), *(np.arange(3 * count) + 0.25), 1e7])
    many = loop.at(frames)
    for number, frame in enumerate(frames.tolist()):
        viewmat, aus, index = loop.pose(frame)
        assert np.array_equal(viewmat, many.viewmats[number]) and np.array_equal(aus, many.aus[number])
        assert index == many.indices[number] and loop.indices([frame]) == [index]
