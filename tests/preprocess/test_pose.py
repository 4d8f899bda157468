"""The pose solver against synthetic heads whose path, shape and focal length are known."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from emotalking.data.layouts import EYE_DISTANCE, IBUG68, FaceLayout
from emotalking.errors import InputError
from emotalking.preprocess.config import PoseConfig
from emotalking.preprocess.pose import bundle
from emotalking.preprocess.pose.keyframes import LINKS, KeyframeTracks, choose_keyframes
from emotalking.preprocess.pose.rigid import EYE_PLACE, RigidStart, head_frame, to_world
from emotalking.preprocess.pose.scalp import Scalp
from emotalking.preprocess.pose.solver import jitter_px, refine_pose, solve_pose
from emotalking.preprocess.pose.track import PoseTrack, project
from emotalking.preprocess.tracking import PointFlow

from ..memory import memory_below

SIZE = (512, 512)


def _layout() -> FaceLayout:
    """Twenty rigid points behind the usual 68, the 21st on top of the forehead."""
    fields = {**IBUG68.__dict__, "name": "test", "rigid": tuple(range(68, 89)), "oval": (88, *IBUG68.oval)}
    return FaceLayout(**fields)


def _head(rng: np.random.Generator) -> np.ndarray:
    """Points on the front of an ellipsoid with eyes, chin and forehead where a face has them, in the head frame."""
    x, y = rng.uniform(-0.06, 0.06, 89), rng.uniform(-0.05, 0.06, 89)
    x[36:42], y[36:42] = -0.0315 + 0.012 * np.cos(np.linspace(0, 6, 6)), 0.003 * np.sin(np.linspace(0, 6, 6))
    x[42:48], y[42:48] = -x[36:42], y[36:42]
    x[8], y[8] = 0.0, -0.11
    x[88], y[88] = 0.0, 0.06
    shape = np.stack([x, y, 0.07 - 6.0 * (x**2 + 0.5 * y**2)], -1)
    shape[68:76, 2] += rng.uniform(0, 0.02, 8)
    shape[88, 2] = shape[8, 2]
    scale, rotation, offset = head_frame(shape, _layout())
    return scale * shape @ rotation.T + offset


def _path(count: int, swing: float) -> np.ndarray:
    """A talking head: slow turns, nods and shifts."""
    t = np.arange(count) / 25.0
    yaw = np.radians(swing) * np.sin(2 * np.pi * 0.23 * t)
    pitch = np.radians(0.5 * swing) * np.sin(2 * np.pi * 0.41 * t + 1)
    roll = np.radians(0.3 * swing) * np.sin(2 * np.pi * 0.31 * t + 2)
    turn = Rotation.from_euler("YXZ", np.stack([yaw, pitch, roll], -1)).as_matrix() @ np.diag([1.0, -1.0, -1.0])
    out = np.tile(np.eye(4), (count, 1, 1))
    out[:, :3, :3] = turn
    out[:, :3, 3] = np.stack([0.02 * np.sin(1.3 * t), 0.01 * np.cos(1.1 * t), 0.75 + 0.05 * np.sin(0.7 * t)], -1)
    return out


class Scene:
    """A synthetic clip."""

    def __init__(self, count: int = 250, swing: float = 15.0, focal: float = 1100.0, noise: float = 0.0) -> None:
        rng = np.random.default_rng(3)
        self.layout, self.shape = _layout(), _head(rng)
        self.path, self.focal = _path(count, swing), focal
        self.clean = project(self.shape, self.path, focal, SIZE)
        self.points = self.clean + rng.normal(0, noise, self.clean.shape) if noise else self.clean.copy()
        z = np.einsum("nj,kj->nk", self.path[:, 2, :3], self.shape)
        self.depth = z * focal / self.path[:, 2, 3][:, None]
        rigid = list(self.layout.rigid)
        move = np.diff(self.clean[:, rigid], axis=0)
        self.flow = PointFlow(move + rng.normal(0, 0.05, move.shape), np.ones(move.shape[:2], bool))

    def rotation_errors_deg(self, path: np.ndarray) -> np.ndarray:
        """Angle between true and solved rotation, a constant offset of the frame removed."""
        between = np.swapaxes(self.path[:, :3, :3], 1, 2) @ path[:, :3, :3]
        mean = Rotation.from_matrix(between).mean()
        return np.degrees((mean.inv() * Rotation.from_matrix(between)).magnitude())


def test_exact_points_give_the_exact_path() -> None:
    scene = Scene(count=150)
    config = PoseConfig(focal_ratio=1100 / 512, focal_spread=0.02, cutoff_hz=12.5)
    pose = solve_pose(scene.points, scene.depth, scene.layout, SIZE, config=config)
    assert pose.statistics["reprojection_px"] < 0.05
    assert scene.rotation_errors_deg(pose.viewmats).max() < 0.1
    assert abs(pose.focal / 1100 - 1) < 0.03
    assert np.abs(pose.shape - scene.shape).max() < 0.003


def test_noise_of_a_pixel_is_reduced_and_the_path_stays() -> None:
    scene = Scene(noise=1.0)
    rigid = list(scene.layout.rigid)
    pose = solve_pose(scene.points, scene.depth, scene.layout, SIZE, flow=scene.flow)
    errors = scene.rotation_errors_deg(pose.viewmats)
    assert np.sqrt((errors**2).mean()) < 0.3
    solved = project(pose.shape, pose.viewmats, pose.focal, SIZE)[:, rigid]
    assert np.sqrt(((solved - scene.clean[:, rigid]) ** 2).mean()) < 0.35
    true_motion = jitter_px(scene.clean[:, rigid])
    assert pose.statistics["jitter_landmarks_px"] > 0.8
    assert pose.statistics["jitter_per_frame_pose_px"] > 3 * pose.statistics["jitter_px"]
    assert pose.statistics["jitter_px"] < true_motion + 0.05


def test_without_flow_the_prior_alone_smooths() -> None:
    scene = Scene(noise=1.0)
    config = PoseConfig(cutoff_hz=3.0)
    pose = solve_pose(scene.points, scene.depth, scene.layout, SIZE, config=config)
    # Measured 0.42: twenty flat points with a pixel of noise turn a single frame's pose by about a degree.
    assert np.sqrt((scene.rotation_errors_deg(pose.viewmats) ** 2).mean()) < 0.5
    assert pose.statistics["jitter_px"] < 0.3 * pose.statistics["jitter_per_frame_pose_px"]


@pytest.mark.parametrize("focal", [850.0, 1400.0])
def test_rich_motion_shows_the_focal_length(focal: float) -> None:
    scene = Scene(count=300, swing=30.0, focal=focal, noise=0.3)
    sure = PoseConfig(focal_doubt=0.02)  # these landmarks have no systematic error
    pose = solve_pose(scene.points, scene.depth, scene.layout, SIZE, flow=scene.flow, config=sure)
    assert abs(pose.focal / focal - 1) < 0.05
    assert pose.statistics["focal_evidence"] > 0.9 and pose.statistics["focal_sigma"] < 0.1


def test_a_still_head_keeps_the_prior_focal_length_and_says_so() -> None:
    scene = Scene(count=120, swing=2.0, focal=1800.0, noise=0.5)
    pose = solve_pose(scene.points, scene.depth, scene.layout, SIZE, flow=scene.flow)
    assert pose.statistics["focal_evidence"] < 0.1 and pose.statistics["focal_sigma"] > 0.22
    assert abs(pose.statistics["focal_ratio"] / PoseConfig().focal_ratio - 1) < 0.1


@pytest.mark.parametrize("chunk", [7, 64])
def test_chunks_change_nothing(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(count=130, noise=0.5)
    scene.points[40:48] = np.nan
    scene.flow.valid[39:48] = False

    def solve() -> PoseTrack:
        config = PoseConfig(iterations=6)
        return solve_pose(scene.points, scene.depth, scene.layout, SIZE, flow=scene.flow, config=config)

    whole = solve()
    monkeypatch.setattr(bundle, "CHUNK", chunk)
    parts = solve()
    np.testing.assert_allclose(parts.viewmats, whole.viewmats, atol=1e-9)
    np.testing.assert_allclose(parts.shape, whole.shape, atol=1e-9)
    assert parts.focal == pytest.approx(whole.focal, rel=1e-9)


def test_memory_does_not_hold_the_jacobians_of_a_long_clip() -> None:
    scene = Scene(count=6000)
    index = np.asarray(scene.layout.rigid)
    guess = RigidStart(scene.shape[index], scene.path[:, :3, :3], scene.path[:, :3, 3], scene.focal)
    weights = bundle.BundleWeights(0.1, 0.035, 2.0, (0.002, 0.002, 0.002), 0.25, 120.0)
    problem = bundle.Bundle(scene.points[:, index], guess, SIZE, scene.flow, weights, 1.0)
    # The Jacobians alone would take 6000 frames x 21 points x 2 x 26 numbers of 8 bytes = 52 MB, the coupling 18 MB.
    with memory_below(40_000_000):
        problem.step(with_globals=True)


def test_frames_without_a_face_are_bridged() -> None:
    scene = Scene(count=150, noise=0.3)
    scene.points[60:70] = np.nan
    pose = solve_pose(scene.points, scene.depth, scene.layout, SIZE, config=PoseConfig(cutoff_hz=5.0))
    assert np.isfinite(pose.viewmats).all()
    assert scene.rotation_errors_deg(pose.viewmats)[60:70].max() < 1.5


def test_a_second_without_a_face_makes_no_spike() -> None:
    scene = Scene(count=150, noise=0.3)
    scene.points[60:85] = np.nan
    scene.flow.valid[59:85] = False
    pose = solve_pose(scene.points, scene.depth, scene.layout, SIZE, flow=scene.flow)
    assert scene.rotation_errors_deg(pose.viewmats)[58:87].max() < 5.0
    path = project(pose.shape, pose.viewmats, pose.focal, SIZE)[:, list(scene.layout.rigid)]
    step, true_step = (np.linalg.norm(np.diff(p, axis=0), axis=-1).max(-1) for p in (path, scene.clean[:, 68:89]))
    assert step[58:87].max() < 1.3 * true_step.max()


def test_frames_that_jump_are_thrown_out() -> None:
    scene = Scene(count=150, noise=0.3)
    scene.points[[40, 90]] += 15.0
    scene.points[120, 68:80, 0] -= 20.0
    pose = solve_pose(scene.points, scene.depth, scene.layout, SIZE, flow=scene.flow)
    assert scene.rotation_errors_deg(pose.viewmats)[[39, 40, 41, 90, 120]].max() < 0.5
    solved = project(pose.shape, pose.viewmats, pose.focal, SIZE)[:, list(scene.layout.rigid)]
    assert np.linalg.norm(solved - scene.clean[:, 68:89], axis=-1)[[40, 90, 120]].mean() < 1.0


def test_a_point_that_moves_with_the_face_does_not_nod_the_head() -> None:
    scene = Scene(noise=0.2)
    wander = 4.0 * np.sin(2 * np.pi * 2.0 * np.arange(250) / 25)
    scene.points[:, 70:73, 1] += wander[:, None]
    pose = solve_pose(scene.points, scene.depth, scene.layout, SIZE, flow=scene.flow)
    assert np.sqrt((scene.rotation_errors_deg(pose.viewmats) ** 2).mean()) < 0.3
    assert pose.sigma_px[2:5].min() > 3 * np.median(pose.sigma_px)


def test_a_slow_error_of_the_detector_does_not_turn_the_head() -> None:
    scene = Scene(noise=0.3)
    rng, rigid = np.random.default_rng(2), list(scene.layout.rigid)
    slow = np.sin(2 * np.pi * 0.3 * np.arange(250) / 25)[:, None, None]
    scene.points[:, rigid] += 2.0 * slow * rng.normal(size=(len(rigid), 2))
    given = scene.layout, SIZE, 25, scene.flow
    before = solve_pose(scene.points, scene.depth, *given)
    path = project(before.shape[rigid], before.viewmats, before.focal, SIZE)
    _, links = choose_keyframes(path, np.ones(250, bool), 24)
    clean = scene.clean[:, rigid]
    moves = np.asarray(clean[:, None] - clean[links] + rng.normal(0, 0.1, (250, LINKS, len(rigid), 2)), np.float32)
    moves[:, :, ::3] = np.nan
    moves[100] = np.nan
    after = refine_pose(before, KeyframeTracks(links, moves), scene.points, *given)
    errors = [np.sqrt((scene.rotation_errors_deg(pose.viewmats) ** 2).mean()) for pose in (before, after)]
    assert errors[1] < 0.6 * errors[0]
    assert np.array_equal(after.shape, before.shape) and after.focal == before.focal


def test_hair_stays_in_place_when_skin_slides() -> None:
    scene, rng = Scene(noise=0.3), np.random.default_rng(4)
    rigid = list(scene.layout.rigid)
    slide = 3.0 * np.exp(-(((np.arange(250) - 125) / 20) ** 4))  # all skin slides down for two seconds
    scene.points[:, rigid, 1] += slide[:, None]
    scene.flow.displacement[..., 1] += np.diff(slide)[:, None]
    places = np.column_stack([rng.uniform(low, high, 60) for low, high in ((-0.07, 0.07), (0.06, 0.12), (-0.06, 0.02))])
    given = scene.layout, SIZE, 25, scene.flow
    before = solve_pose(scene.points, scene.depth, *given)
    face, hair = scene.points[:, rigid], project(places, scene.path, scene.focal, SIZE)
    keys, links = choose_keyframes(scene.clean[:, rigid], np.ones(250, bool), 24)
    seen = hair[keys] + rng.normal(0, 0.1, (1, 60, 2))
    seen[3, :5] = np.nan  # these are hidden in a keyframe
    scalp = Scalp(keys, seen, places + rng.normal(0, 0.01, places.shape))
    moves = np.concatenate([face, hair], 1)
    moves = np.asarray(moves[:, None] - moves[links], np.float32)
    off = {}
    for name, count, more in (("face", len(rigid), None), ("hair", None, scalp)):
        path = refine_pose(before, KeyframeTracks(links, moves[:, :, :count]), scene.points, *given, scalp=more)
        turned = Rotation.from_matrix(np.swapaxes(scene.path[:, :3, :3], 1, 2) @ path.viewmats[:, :3, :3]).mean()
        drawn = project(places @ turned.as_matrix(), path.viewmats, path.focal, SIZE)  # the head frame may be turned
        shift = drawn - hair
        shift = np.linalg.norm(shift - np.median(shift, 0), axis=-1)
        off[name] = shift[110:140].mean(), shift[[*range(90), *range(160, 250)]].mean()
    assert off["hair"][0] < 0.5 * off["face"][0] and off["hair"][1] < 1.1 * off["face"][1], off


def test_a_cut_is_not_smeared() -> None:
    scene = Scene(count=120, noise=0.3)
    scene.points[60:, :, 0] += 40.0
    scene.flow.valid[59] = False
    pose = solve_pose(scene.points, scene.depth, scene.layout, SIZE, flow=scene.flow)
    solved = project(pose.shape, pose.viewmats, pose.focal, SIZE)[:, list(scene.layout.rigid)]
    step = (solved[60] - solved[59])[:, 0].mean()
    assert step == pytest.approx(40.0, abs=4.0)


def test_world_frame_holds_the_conventions() -> None:
    scene = Scene(count=60)
    pose = solve_pose(scene.points, scene.depth, scene.layout, SIZE)
    right, left = pose.shape[36:42].mean(0), pose.shape[42:48].mean(0)
    np.testing.assert_allclose(left - right, [EYE_DISTANCE, 0, 0], atol=2e-3)
    np.testing.assert_allclose((left + right) / 2, EYE_PLACE, atol=2e-3)
    assert np.linalg.det(pose.viewmats[:, :3, :3]) == pytest.approx(np.ones(60))
    assert (pose.viewmats[:, 2, 3] > 0.3).all()


def test_moving_to_the_world_frame_changes_no_image() -> None:
    scene = Scene(count=5)
    crooked = Rotation.from_euler("xyz", [0.1, -0.2, 0.3]).as_matrix()
    path = scene.path.copy()
    path[:, :3, :3] = scene.path[:, :3, :3] @ crooked.T
    path[:, :3, 3] *= 2.0
    path, shape = to_world(path, 2.0 * scene.shape @ crooked.T, scene.layout)
    np.testing.assert_allclose(project(shape, path, scene.focal, SIZE), scene.clean, atol=1e-8)


def test_jitter_of_white_noise_is_its_sigma() -> None:
    noise = np.random.default_rng(0).normal(0, 0.7, (400, 40, 2))
    assert jitter_px(noise) == pytest.approx(0.7, rel=0.05)
    assert jitter_px(np.linspace(0, 9, 50)[:, None, None] * np.ones((1, 3, 2))) == pytest.approx(0, abs=1e-9)


def test_too_few_faces() -> None:
    scene = Scene(count=30)
    scene.points[5:] = np.nan
    with pytest.raises(InputError, match="only 5 frames"):
        solve_pose(scene.points, scene.depth, scene.layout, SIZE)
