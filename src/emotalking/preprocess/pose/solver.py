"""Head pose of a whole clip: one focal length, one face shape and one smooth path, solved together.

TalkingGaussian and ER-NeRF track each frame independently, and the heads of their avatars shake; here every frame helps
every other. Unknown
are the focal length, the 3-D places of the rigid points, and six numbers a frame. Observed are the landmarks (free of
drift, but noisy) and the optical flow at the rigid points (exact from frame to frame, but drifting). A prior on the
second differences of the path removes what is faster than a head moves. All of it is one robust least-squares problem
(:mod:`emotalking.preprocess.pose.bundle`); time is linear in the length of the clip, and memory nearly flat.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float

from emotalking.data.layouts import FaceLayout
from emotalking.errors import NoFaceError
from emotalking.ops.geometry import fit_similarity
from emotalking.preprocess.config import PoseConfig
from emotalking.preprocess.pose import rigid
from emotalking.preprocess.pose.bundle import Bundle, BundleWeights
from emotalking.preprocess.pose.keyframes import KeyframeTracks
from emotalking.preprocess.pose.scalp import SPREAD, Scalp
from emotalking.preprocess.pose.track import PoseTrack
from emotalking.preprocess.tracking import PointFlow


def jitter_px(points: Float[np.ndarray, "N R 2"]) -> float:
    """Shake of a point track: median over frames of its second difference, scaled to the sigma of white noise.

    Args:
        points: pixels; frames with NaN are left out.
    """
    if len(points) < 3:
        return 0.0
    second = points[2:] - 2 * points[1:-1] + points[:-2]
    per_frame = np.sqrt((second**2).mean((1, 2)) / 6.0)
    per_frame = per_frame[np.isfinite(per_frame)]
    return float(np.median(per_frame)) if len(per_frame) else 0.0


def solve_pose(
    points: Float[np.ndarray, "N K 2"],
    depth: Float[np.ndarray, "N K"],
    layout: FaceLayout,
    size: tuple[int, int],
    fps: float | int = 25,
    flow: PointFlow | None = None,
    config: PoseConfig = PoseConfig(),  # noqa: B008 (frozen)
) -> PoseTrack:
    """Focal length, face shape and smooth head path of a clip (replaces the BFM tracker of docs/paper.md 2, step 8).

    Deviation: the paper's baseline fits a 3-D morphable model frame by frame; its licence forbids shipping it, and its
    path shakes. The rigid landmarks of all frames are adjusted together instead.

    Args:
        points: landmarks in pixels; NaN where a frame has no face.
        depth: the detector's own depth of each point in pixels, smaller is nearer.
        layout: names the rigid points, the eyes, the forehead and the chin.
        size: image (height, width).
        fps: frame rate.
        flow: optical flow at ``layout.rigid``; without it the path is smoothed by the prior only.
        config: weights.

    Raises:
        InputError: if fewer than ten frames show a face.
    """
    index = np.asarray(layout.rigid)
    rigid_points = np.asarray(points[:, index], np.float64)
    detected = _detected(rigid_points)
    start = rigid.start(points, depth, detected, layout, size, config.focal_ratio)
    weights = _weights(config, fps, len(points))
    problem = Bundle(rigid_points, start.only(index), size, flow, weights, max(size) / 512.0)
    _iterate(problem, config)
    statistics = _settle_focal(problem, _focal_sigma(start, config), config, size)
    path, focal = problem.viewmats(), float(np.exp(problem.log_focal))
    full = rigid.triangulate(points, detected, path, focal, size, start.shape)
    full[index] = problem.shape
    statistics |= _statistics(problem, detected)
    viewmats, shape = rigid.to_world(path, full, layout)
    return PoseTrack(viewmats, focal, shape, problem.sigma, statistics | _spans(viewmats))


def follow_pose(
    points: Float[np.ndarray, "N K 2"],
    depth: Float[np.ndarray, "N K"],
    layout: FaceLayout,
    size: tuple[int, int],
    shape: Float[np.ndarray, "K 3"],
    focal: float,
    fps: float | int = 25,
    flow: PointFlow | None = None,
    config: PoseConfig = PoseConfig(),  # noqa: B008 (frozen)
) -> PoseTrack:
    """Smooth head path of a further clip of a person whose face shape and focal length are known and stay as they are.

    So its poses are of the known head frame, whatever the person's expression.

    Args:
        points: as :func:`solve_pose`, like all others.
        shape: neutral face in its head frame.
        focal: pixels of this clip's frames.

    Raises:
        InputError: if fewer than ten frames show a face.
    """
    index = np.asarray(layout.rigid)
    rigid_points = np.asarray(points[:, index], np.float64)
    detected = _detected(rigid_points)
    first = rigid.start(points, depth, detected, layout, size, focal / size[1])
    scale, rotation, offset = fit_similarity(first.shape[index], shape[index])
    rotations = first.rotations @ rotation.T
    translations = scale * first.translations - rotations @ offset
    start = rigid.RigidStart(np.asarray(shape, np.float64)[index], rotations, translations, focal)
    problem = Bundle(rigid_points, start, size, flow, _weights(config, fps, len(points)), max(size) / 512.0)
    _iterate(problem, config, with_globals=False)
    path = problem.viewmats()
    return PoseTrack(path, focal, np.asarray(shape), problem.sigma, _statistics(problem, detected) | _spans(path))


_TRACKED_PX = 0.25
"""Standard deviation given to points followed from keyframes, in pixels of a 512-pixel image."""
_FACE_ROUNDS, _ROUNDS = 3, 6
"""Rounds of the refinement with the face alone, and of all."""
_FEWEST_TRACKED = 6
"""A frame with fewer of them keeps the detector's landmarks."""


def refine_pose(
    pose: PoseTrack,
    tracks: KeyframeTracks,
    points: Float[np.ndarray, "N K 2"],
    layout: FaceLayout,
    size: tuple[int, int],
    fps: float | int = 25,
    flow: PointFlow | None = None,
    config: PoseConfig = PoseConfig(),  # noqa: B008 (frozen)
    scalp: Scalp | None = None,
) -> PoseTrack:
    """The path solved again with points followed from keyframes in the landmarks' place.

    Where a point of the face is in the keyframes follows from their poses, which are corrected too: a few rounds. Then
    hair and ears count as well, at the places that the path gives them by then. Face shape and
    focal length stay: corrected too, a head that hardly turns became 4 mm deeper and turned by a third less, which
    explains the same motion; so do the places. Each point weighs by its own noise, as expressions move skin.

    Args:
        pose: result of :func:`solve_pose` or :func:`follow_pose`, of the same arguments.
        tracks: of the rigid points, and of those of ``scalp`` behind them.
        points: as :func:`solve_pose`, like all others.
        scalp: hair and ears; None: there are none.
    """
    index = np.asarray(layout.rigid)
    landmarks, face = np.asarray(points[:, index], np.float64), len(index)
    more = np.zeros((0, 3)) if scalp is None else scalp.places
    start = rigid.RigidStart(
        np.concatenate([pose.shape[index], more]), pose.viewmats[:, :3, :3], pose.viewmats[:, :3, 3], pose.focal
    )
    weights, unit = _weights(config, fps, len(points)), max(size) / 512.0
    problem = Bundle(_widened(landmarks, len(more), np.nan), start, size, flow, weights, unit)
    problem.sigma = np.full(len(start.shape), _TRACKED_PX * unit)
    for number in range(_ROUNDS):
        path = problem.project()
        places = tracks.points(path if scalp is None else scalp.begun(path))
        lost = np.isfinite(places[:, :face]).all(-1).sum(1) < _FEWEST_TRACKED
        places[lost, :face] = landmarks[lost]
        if number < _FACE_ROUNDS:
            places[:, face:] = np.nan
        elif number == _FACE_ROUNDS and len(more):
            usable: np.ndarray = np.isfinite(places[:, face:]).all(-1).sum(1) > 0
            views = problem.viewmats()
            problem.shape[face:] = rigid.triangulate(places[:, face:], usable, views, pose.focal, size, more, SPREAD)
        problem.observed = np.asarray(np.isfinite(places).all(-1))
        problem.points = np.where(problem.observed[..., None], places, 0.0)
        if number >= _FACE_ROUNDS:
            problem.measure_sigma()
        for _ in range(4):
            problem.step(with_globals=False)
    return _of_face(problem, pose, landmarks, size, flow)


def _of_face(
    problem: Bundle, pose: PoseTrack, landmarks: np.ndarray, size: tuple[int, int], flow: PointFlow | None
) -> PoseTrack:
    """The path of ``problem`` with the measures of the rigid landmarks."""
    count, path = landmarks.shape[1], problem.viewmats()
    start = rigid.RigidStart(problem.shape[:count], problem.rotations, problem.translations, pose.focal)
    face = Bundle(landmarks, start, size, flow, problem.weights, problem.unit)
    face.sigma = pose.sigma_px
    statistics = pose.statistics | _statistics(face, _detected(landmarks)) | _spans(path)
    return replace(pose, viewmats=path, statistics=statistics | {"scalp_points": float(len(problem.shape) - count)})


def _widened(values: np.ndarray, count: int, fill: float | bool) -> np.ndarray:
    """[N, R, ...] with ``count`` more points of value ``fill``."""
    return np.concatenate([values, np.full((len(values), count, *values.shape[2:]), fill, values.dtype)], 1)


def _detected(rigid_points: Float[np.ndarray, "N R 2"]) -> Bool[np.ndarray, " N"]:
    """Frames with a face.

    Raises:
        NoFaceError: fewer than ten.
    """
    detected = np.asarray(np.isfinite(rigid_points).all((1, 2)))
    if detected.sum() < 10:
        raise NoFaceError(
            f"only {int(detected.sum())} frames show a face: at least ten are needed to solve the head pose"
        )
    return detected


def _weights(config: PoseConfig, fps: float | int, count: int) -> BundleWeights:
    # Against unit information a frame, a second-difference penalty of this weight halves motion at cutoff_hz.
    response = 2 * np.sin(np.pi * min(config.cutoff_hz / fps, 0.5))
    return BundleWeights(
        smoothing=response**-4.0,
        flow_px=config.flow_px,
        huber=config.huber,
        shape_spread=config.shape_spread,
        focal_spread=config.focal_spread,
        prior_scale=max(count / 50.0, 1.0),
    )


def _iterate(problem: Bundle, config: PoseConfig, *, with_globals: bool = True) -> None:
    """Gauss-Newton steps until the path stays; ``with_globals``: shape and focal length move too."""
    for iteration in range(config.iterations):
        damping = 1e-4 if iteration < 3 else 1e-6
        change = problem.step(with_globals=with_globals and iteration >= 2, damping=damping)
        if iteration in (3, 6, 10):
            problem.measure_sigma()
        if iteration > 10 and change < 1e-5:
            break


def _focal_sigma(start: rigid.RigidStart, config: PoseConfig) -> float:
    """Systematic error of the observed log focal length for how far this head turns."""
    facing = start.rotations[:, 2]  # the camera's axis in the head frame
    mean = facing.mean(0) / np.linalg.norm(facing.mean(0))
    turn = float(np.sqrt(np.mean(np.arccos(np.clip(facing @ mean, -1, 1)) ** 2)))
    return config.focal_doubt * float(np.hypot(1.0, np.radians(config.focal_turn_deg) / max(turn, 1e-6)))


def _settle_focal(problem: Bundle, sigma: float, config: PoseConfig, size: tuple[int, int]) -> dict[str, float]:
    """Weigh the focal length that the observations gave against the prior, and solve once more with the outcome.

    The residuals' own claim of certainty is left to count only where it is the weaker one: errors of a detector are
    in the same way in all frames, and its assumed depth of a face biases the focal length.
    """
    variance = problem.focal_variance + sigma**2
    share = 1.0 / (1.0 + variance / config.focal_spread**2)
    alone, prior = problem.log_focal, np.log(config.focal_ratio * size[1])
    problem.hold_focal(float(prior + share * (alone - prior)))
    for _ in range(4):
        problem.step(with_globals=True)
    return {
        "focal_ratio": float(np.exp(problem.log_focal)) / size[1],
        "focal_sigma": float(np.sqrt(share * variance)),
        "focal_ratio_alone": float(np.exp(alone)) / size[1],
        "focal_evidence": float(share),
    }


def _statistics(problem: Bundle, detected: np.ndarray) -> dict[str, float]:
    """Errors and shake."""
    model, alone = problem.project(), _project_independent_poses(problem, detected)
    error = (model - problem.points)[detected]
    statistics = {
        "reprojection_px": float(np.sqrt((error**2).sum(-1).mean())),
        "jitter_landmarks_px": jitter_px(np.where(detected[:, None, None], problem.points, np.nan)),
        "noise_px": jitter_px(np.where(detected[:, None, None], problem.points - model, np.nan)),
        "jitter_per_frame_pose_px": jitter_px(alone),
        "jitter_px": jitter_px(model),
    }
    if problem.flow is not None and problem.flow.valid.any():
        statistics["slip_per_frame_pose_px"] = _slip(alone, problem.flow)
        statistics["slip_px"] = _slip(model, problem.flow)
    return statistics


def _slip(points: np.ndarray, flow: PointFlow) -> float:
    """Median distance between the motion of the points from frame to frame and the optical flow."""
    distance = np.linalg.norm(np.diff(points, axis=0) - flow.displacement, axis=-1)[flow.valid]
    return float(np.nanmedian(distance))


def _spans(path: np.ndarray) -> dict[str, float]:
    """Degrees between the 1st and the 99th percentile of yaw, pitch and roll."""
    low, high = np.percentile(np.degrees(rigid.euler_angles(path)), [1, 99], axis=0)
    names = ("yaw_span_deg", "pitch_span_deg", "roll_span_deg")
    return {name: float(b - a) for name, a, b in zip(names, low, high, strict=True)}


def _project_independent_poses(problem: Bundle, detected: np.ndarray) -> np.ndarray:
    """Rigid points under the pose of each frame solved independently (as TalkingGaussian trains on), to compare with.

    [N, R, 2]; NaN where there is no face.
    """
    saved = problem.rotations, problem.translations
    for _ in range(4):
        problem.step(with_globals=False, with_time=False)
    out = np.where(detected[:, None, None], problem.project(), np.nan)
    problem.rotations, problem.translations = saved
    return out
