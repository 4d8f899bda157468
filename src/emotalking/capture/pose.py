"""Head pose of a whole clip: one focal length, one face shape and one smooth path, solved together.

The peers track each frame by itself, and the heads of their avatars shake; here every frame helps every other. Unknown
are the focal length, the 3-D places of the rigid points, and six numbers a frame. Observed are the landmarks (free of
drift, but noisy) and the optical flow at the rigid points (exact from frame to frame, but drifting). A prior on the
second differences of the path removes what is faster than a head moves. All of it is one robust least-squares problem
whose normal matrix is banded in time, so that a Gauss-Newton step costs a banded Cholesky factorisation and a small
Schur complement: memory and time are linear in the length of the clip.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_solve_banded, cholesky_banded
from scipy.spatial.transform import Rotation

from emotalking.capture import rigid
from emotalking.capture.flow import PointFlow
from emotalking.errors import UserError
from emotalking.subject.layouts import FaceLayout


@dataclass(frozen=True)
class PoseConfig:
    """How the path is solved."""

    cutoff_hz: float = 8.0
    """Motion faster than this is taken for noise (a nodding head stays below 3 Hz)."""
    focal_ratio: float = 2.2
    """Prior of focal length / image width: a frontal talking clip looks nearly the same for any focal length."""
    focal_spread: float = 0.02
    """Standard deviation of the prior, of the focal length's logarithm, against fifty independent frames."""
    shape_spread: tuple[float, float, float] = (0.0015, 0.0015, 0.002)
    """Standard deviation (world units; x, y, z) of a point around the detector's 3-D shape, against fifty frames."""
    flow_px: float = 0.035
    """Standard deviation given to the optical flow, in pixels of a 512-pixel image. Less than its own scatter (about a
    tenth), because the landmarks err alike at all points and in neighbouring frames and so weigh too much. On the
    synthetic actor, whose pose is known, the rotation error is 1.12 degrees at .07, 0.94 at .04, 1.08 at .015."""
    huber: float = 2.0
    """Residuals beyond this many standard deviations count linearly."""
    iterations: int = 20


@dataclass(frozen=True)
class PoseTrack:
    """The solved path, in the world frame of docs/conventions.md."""

    viewmats: Float[np.ndarray, "N 4 4"]
    """World (head) to camera, OpenCV axes."""
    focal: float
    """Pixels; the principal point is the image centre."""
    shape: Float[np.ndarray, "K 3"]
    """Neutral face: every landmark's robust mean place in the head frame."""
    sigma_px: Float[np.ndarray, " R"]
    """Measured noise of each rigid point around the model."""
    figures: dict[str, float] = field(default_factory=dict)
    """reprojection_px, jitter_landmarks_px, jitter_per_frame_pose_px, jitter_px, focal_ratio, yaw/pitch/roll spans."""


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


def project(
    shape: Float[np.ndarray, "R 3"], viewmats: Float[np.ndarray, "N 4 4"], focal: float, size: tuple[int, int]
) -> Float[np.ndarray, "N R 2"]:
    """Pixels of head-frame points under each pose; ``size`` is (height, width)."""
    p = np.einsum("nij,kj->nki", viewmats[:, :3, :3], shape) + viewmats[:, None, :3, 3]
    return focal * p[..., :2] / p[..., 2:] + np.array([size[1] / 2, size[0] / 2])


class _Problem:
    """The least-squares problem: state, linearisation, step."""

    def __init__(
        self,
        points: np.ndarray,
        start: rigid.RigidStart,
        size: tuple[int, int],
        fps: float | int,
        config: PoseConfig,
        flow: PointFlow | None,
    ) -> None:
        self.config, self.size, self.flow = config, size, flow
        self.seen: np.ndarray = np.asarray(np.isfinite(points).all(-1))
        self.points = np.where(self.seen[..., None], points, 0.0)
        self.rotations, self.translations = start.rotations.copy(), start.translations.copy()
        self.shape0, self.shape = start.shape, start.shape.copy()
        self.log_focal = np.log(start.focal)
        self.log_focal0 = self.log_focal
        self.unit = max(size) / 512.0
        self.sigma = np.full(points.shape[1], 1.0 * self.unit)
        # Against unit information a frame, a second-difference penalty of this weight halves motion at cutoff_hz.
        response = 2 * np.sin(np.pi * min(config.cutoff_hz / fps, 0.5))
        self.smoothing = response**-4.0
        # The detector's errors are alike from frame to frame: a long clip is worth about fifty independent frames.
        self.prior_scale = max(len(points) / 50.0, 1.0)

    def _observe(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Projected points [N,R,2], Jacobian to the pose [N,R,2,6], Jacobian to the shape [N,R,2,3]."""
        rotated = np.einsum("nij,kj->nki", self.rotations, self.shape)
        p = rotated + self.translations[:, None]
        focal = np.exp(self.log_focal)
        inv_z = 1.0 / p[..., 2]
        uv = focal * p[..., :2] * inv_z[..., None]
        d_p = np.zeros((*p.shape[:2], 2, 3))
        d_p[..., 0, 0] = d_p[..., 1, 1] = focal * inv_z
        d_p[..., :, 2] = -uv * inv_z[..., None]
        d_rotation = np.cross(rotated[:, :, None, :], d_p)  # d(w x q) = J . (w x q) = (q x J) . w
        return uv, np.concatenate([d_rotation, d_p], -1), np.einsum("nkai,nij->nkaj", d_p, self.rotations)

    def _huber(self, squared: np.ndarray) -> np.ndarray:
        """Weights of iteratively reweighted least squares from squared normalised residuals."""
        return np.minimum(1.0, self.config.huber / np.sqrt(np.maximum(squared, 1e-12)))

    def step(self, with_globals: bool, with_time: bool, damping: float = 1e-6) -> float:
        """One Gauss-Newton step; returns the largest change of a rotation in radians."""
        n, r = self.points.shape[:2]
        uv, d_pose, d_shape = self._observe()
        centre = np.array([self.size[1] / 2, self.size[0] / 2])
        residual = uv + centre - self.points
        weight = self._huber((residual**2).sum(-1) / self.sigma**2) / self.sigma**2 * self.seen
        d_focal = uv
        system = _Normal(n, r)
        system.add_points(residual, weight, d_pose, d_shape, d_focal)
        if with_time:
            information = system.mean_information(np.asarray(self.seen.any(-1)))
            self._add_smoothness(system, information)
            if self.flow is not None:
                gap = self.flow.displacement
                difference = uv[1:] - uv[:-1] - np.where(np.isfinite(gap), gap, 0.0)
                sigma = self.config.flow_px * self.unit
                good = self.flow.valid & np.isfinite(gap).all(-1) & self.seen[1:] & self.seen[:-1]
                pair_weight = self._huber((difference**2).sum(-1) / sigma**2) / sigma**2 * good
                system.add_pairs(difference, pair_weight, d_pose, d_shape, d_focal)
        if with_globals:
            spread = np.asarray(self.config.shape_spread)
            system.add_global_prior(
                (self.shape - self.shape0) / spread**2 * self.prior_scale,
                np.broadcast_to(self.prior_scale / spread**2, self.shape.shape),
                (self.log_focal - self.log_focal0) * self.prior_scale / self.config.focal_spread**2,
                self.prior_scale / self.config.focal_spread**2,
            )
        d_poses, d_globals = system.solve(with_globals, damping)
        self.rotations = Rotation.from_rotvec(d_poses[:, :3]).as_matrix() @ self.rotations
        self.translations = self.translations + d_poses[:, 3:]
        if with_globals:
            self.shape = self.shape + d_globals[:-1].reshape(-1, 3)
            self.log_focal += float(d_globals[-1])
        return float(np.abs(d_poses[:, :3]).max())

    def _add_smoothness(self, system: "_Normal", information: np.ndarray) -> None:
        """Second differences of the path; a jump (a cut in the footage) is let through by the robust weight."""
        if len(self.points) < 3:
            return
        turns = Rotation.from_matrix(self.rotations[1:] @ self.rotations[:-1].transpose(0, 2, 1)).as_rotvec()
        steps = np.concatenate([turns, np.diff(self.translations, axis=0)], -1)
        bend = np.diff(steps, axis=0)
        size = np.einsum("ni,ij,nj->n", bend, information, bend)
        limit = 25.0 * max(float(np.median(size)), 1e-12)
        weight = np.minimum(1.0, np.sqrt(limit / np.maximum(size, 1e-12)))
        system.add_bends(bend, weight * self.smoothing, information)

    def update_sigma(self) -> None:
        """Measure each point's own noise: points that expressions move lose their say in the pose."""
        uv = self._observe()[0] + np.array([self.size[1] / 2, self.size[0] / 2])
        distance = np.where(self.seen, np.linalg.norm(uv - self.points, axis=-1), np.nan)
        self.sigma = np.clip(np.nanmedian(distance, 0) / 1.177, 0.25 * self.unit, 8.0 * self.unit)  # Rayleigh median


class _Normal:
    """Normal equations: poses (block-banded in time) and globals (shape, focal) with their coupling."""

    def __init__(self, frames: int, points: int) -> None:
        self.n, self.g = frames, 3 * points + 1
        self.blocks = [np.zeros((frames - d, 6, 6)) for d in range(min(3, frames))]
        self.gradient = np.zeros((frames, 6))
        self.cross = np.zeros((frames, 6, self.g))
        self.globals = np.zeros((self.g, self.g))
        self.global_gradient = np.zeros(self.g)

    def _add_globals(self, res: np.ndarray, w: np.ndarray, d_shape: np.ndarray, d_focal: np.ndarray) -> None:
        points = d_shape.shape[1]
        diagonal = np.einsum("nkai,nk,nkaj->kij", d_shape, w, d_shape, optimize=True)
        for i in range(3):
            for j in range(3):
                index = np.arange(points) * 3
                self.globals[index + i, index + j] += diagonal[:, i, j]
        mixed = np.einsum("nkai,nk,nka->ki", d_shape, w, d_focal, optimize=True).reshape(-1)
        self.globals[:-1, -1] += mixed
        self.globals[-1, :-1] += mixed
        self.globals[-1, -1] += np.einsum("nka,nk,nka->", d_focal, w, d_focal, optimize=True)
        self.global_gradient[:-1] += np.einsum("nkai,nk,nka->ki", d_shape, w, res, optimize=True).reshape(-1)
        self.global_gradient[-1] += np.einsum("nka,nk,nka->", d_focal, w, res, optimize=True)

    def _cross(self, d_pose: np.ndarray, w: np.ndarray, d_shape: np.ndarray, d_focal: np.ndarray) -> np.ndarray:
        shape = np.einsum("nkai,nk,nkaj->nikj", d_pose, w, d_shape, optimize=True).reshape(len(d_pose), 6, -1)
        focal = np.einsum("nkai,nk,nka->ni", d_pose, w, d_focal, optimize=True)
        return np.concatenate([shape, focal[..., None]], -1)

    def add_points(
        self, res: np.ndarray, w: np.ndarray, d_pose: np.ndarray, d_shape: np.ndarray, d_focal: np.ndarray
    ) -> None:
        """Landmarks seen in a frame."""
        self.blocks[0] += np.einsum("nkai,nk,nkaj->nij", d_pose, w, d_pose, optimize=True)
        self.gradient += np.einsum("nkai,nk,nka->ni", d_pose, w, res, optimize=True)
        self.cross += self._cross(d_pose, w, d_shape, d_focal)
        self._add_globals(res, w, d_shape, d_focal)

    def add_pairs(
        self, res: np.ndarray, w: np.ndarray, d_pose: np.ndarray, d_shape: np.ndarray, d_focal: np.ndarray
    ) -> None:
        """Optical flow between neighbouring frames: residual = (projection of n + 1) - (projection of n) - flow."""
        first, second = d_pose[:-1], d_pose[1:]
        d_s, d_f = np.diff(d_shape, axis=0), np.diff(d_focal, axis=0)
        self.blocks[0][:-1] += np.einsum("nkai,nk,nkaj->nij", first, w, first, optimize=True)
        self.blocks[0][1:] += np.einsum("nkai,nk,nkaj->nij", second, w, second, optimize=True)
        self.blocks[1] -= np.einsum("nkai,nk,nkaj->nij", second, w, first, optimize=True)
        self.gradient[:-1] -= np.einsum("nkai,nk,nka->ni", first, w, res, optimize=True)
        self.gradient[1:] += np.einsum("nkai,nk,nka->ni", second, w, res, optimize=True)
        self.cross[:-1] -= self._cross(first, w, d_s, d_f)
        self.cross[1:] += self._cross(second, w, d_s, d_f)
        self._add_globals(res, w, d_s, d_f)

    def add_bends(self, bend: np.ndarray, w: np.ndarray, information: np.ndarray) -> None:
        """Second differences e = x[n] - 2 x[n+1] + x[n+2] with the metric ``information``."""
        coefficients = (1.0, -2.0, 1.0)
        matrix = w[:, None, None] * information
        pull = np.einsum("n,ij,nj->ni", w, information, bend)
        count = len(bend)
        for i, a in enumerate(coefficients):
            self.gradient[i : i + count] += a * pull
            for j, b in enumerate(coefficients[: i + 1]):
                self.blocks[i - j][j : j + count] += a * b * matrix

    def add_global_prior(self, pull: np.ndarray, weight: np.ndarray, focal_pull: float, focal_weight: float) -> None:
        """Pull of shape and focal length to where they began."""
        index = np.arange(self.g - 1)
        self.globals[index, index] += weight.reshape(-1)
        self.global_gradient[:-1] += pull.reshape(-1)
        self.globals[-1, -1] += focal_weight
        self.global_gradient[-1] += focal_pull

    def mean_information(self, seen: np.ndarray) -> np.ndarray:
        """Mean over the seen frames of what one frame's landmarks say about its pose, [6, 6]."""
        return self.blocks[0][seen].mean(0)

    def solve(self, with_globals: bool, damping: float) -> tuple[np.ndarray, np.ndarray]:
        """The step of poses [N,6] and globals [G] (zero unless ``with_globals``)."""
        band = np.zeros((18, 6 * self.n))
        for distance, block in enumerate(self.blocks):
            for i in range(6):
                for j in range(6):
                    row = 6 * distance + i - j
                    if row >= 0:
                        band[row, j : j + 6 * len(block) : 6] = block[:, i, j]
        band[0] *= 1 + damping
        factor = cholesky_banded(band, lower=True, check_finite=False)
        gradient = self.gradient.reshape(-1)
        if not with_globals:
            return -cho_solve_banded((factor, True), gradient).reshape(-1, 6), np.zeros(self.g)
        cross = self.cross.reshape(6 * self.n, self.g)
        solved = cho_solve_banded((factor, True), np.column_stack([cross, gradient]), check_finite=False)
        reduced = self.globals - cross.T @ solved[:, :-1]
        step = -np.linalg.solve(reduced, self.global_gradient - cross.T @ solved[:, -1])
        return -(solved[:, -1] + solved[:, :-1] @ step).reshape(-1, 6), step


def solve_pose(
    points: Float[np.ndarray, "N K 2"],
    depth: Float[np.ndarray, "N K"],
    layout: FaceLayout,
    size: tuple[int, int],
    fps: float | int = 25,
    flow: PointFlow | None = None,
    config: PoseConfig = PoseConfig(),  # noqa: B008 (frozen)
) -> PoseTrack:
    """Focal length, face shape and smooth head path of a clip (replaces the BFM tracker of paper-spec 2, step 8).

    Deviation: the paper's baseline fits a 3-D morphable model frame by frame; its licence forbids shipping it, and its
    path shakes. The rigid landmarks of all frames are adjusted together instead.

    Args:
        points: landmarks in pixels; NaN where a frame has no face.
        depth: the detector's own depth of each point in pixels, smaller is nearer.
        layout: names the rigid points, the eyes, the forehead and the chin.
        size: image (height, width).
        fps: frames a second.
        flow: optical flow at ``layout.rigid``; without it the path is smoothed by the prior alone.
        config: weights.

    Raises:
        UserError: if fewer than ten frames show a face.
    """
    points, depth = points.astype(np.float64), depth.astype(np.float64)
    detected: np.ndarray = np.asarray(np.isfinite(points).all((1, 2)))
    if detected.sum() < 10:
        raise UserError(
            f"only {int(detected.sum())} frames show a face: at least ten are needed to solve the head pose"
        )
    index = np.asarray(layout.rigid)
    start = rigid.start(points, depth, detected, layout, size, config.focal_ratio)
    problem = _Problem(points[:, index], start.only(index), size, fps, config, flow)
    for iteration in range(config.iterations):
        change = problem.step(with_globals=iteration >= 2, with_time=True, damping=1e-4 if iteration < 3 else 1e-6)
        if iteration in (3, 6, 10):
            problem.update_sigma()
        if iteration > 10 and change < 1e-5:
            break
    path = _viewmats(problem)
    focal = float(np.exp(problem.log_focal))
    full = rigid.triangulate(points, detected, path, focal, size, start.shape)
    full[index] = problem.shape
    rest = _per_frame(problem, detected)
    model = project(problem.shape, path, focal, size)
    error = np.linalg.norm(model - points[:, index], axis=-1)[detected]
    viewmats, shape = rigid.to_world(path, full, layout)
    facing = np.diag([1.0, -1.0, -1.0]) @ viewmats[:, :3, :3]
    angles = np.degrees(Rotation.from_matrix(facing).as_euler("YXZ"))
    low, high = np.percentile(angles, [1, 99], axis=0)
    figures = {
        "reprojection_px": float(np.sqrt((error**2).mean())),
        "jitter_landmarks_px": jitter_px(points[:, index]),
        "jitter_per_frame_pose_px": jitter_px(project(problem.shape, rest, focal, size)[detected]),
        "jitter_px": jitter_px(model),
        "focal_ratio": focal / size[1],
        "yaw_span_deg": float(high[0] - low[0]),
        "pitch_span_deg": float(high[1] - low[1]),
        "roll_span_deg": float(high[2] - low[2]),
    }
    return PoseTrack(viewmats, focal, shape, problem.sigma, figures)


def _viewmats(problem: _Problem) -> np.ndarray:
    """State of the problem as [N,4,4]."""
    out = np.tile(np.eye(4), (len(problem.rotations), 1, 1))
    out[:, :3, :3], out[:, :3, 3] = problem.rotations, problem.translations
    return out


def _per_frame(problem: _Problem, detected: np.ndarray) -> np.ndarray:
    """Poses that each frame alone would get (what the peers train on): the figure to compare with."""
    saved = problem.rotations, problem.translations, problem.points, problem.seen
    problem.rotations, problem.translations = saved[0][detected], saved[1][detected]
    problem.points, problem.seen = saved[2][detected], saved[3][detected]
    for _ in range(4):
        problem.step(with_globals=False, with_time=False)
    alone = _viewmats(problem)
    out = np.full((len(detected), 4, 4), np.nan)
    out[detected] = alone
    problem.rotations, problem.translations, problem.points, problem.seen = saved
    return out
