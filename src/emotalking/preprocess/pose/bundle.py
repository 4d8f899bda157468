"""Least-squares problem of the pose solver: state, streamed linearisation and Gauss-Newton steps.

Unknown are the focal length and the 3-D places of the rigid points (the *globals*) and six numbers a frame (the
*path*). The normal matrix of the path is banded in time. Its Jacobians are made for some frames at a time and
recomputed where they are needed again, and the Schur complement of the globals is summed up during the forward
substitution, so that the step is the exact one of the whole clip, while memory holds about a kilobyte a frame.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve_banded, cholesky_banded, get_lapack_funcs
from scipy.spatial.transform import Rotation

from emotalking.preprocess.pose.rigid import RigidStart
from emotalking.preprocess.steps import map_frames
from emotalking.preprocess.tracking import PointFlow

CHUNK = 128
"""Frames whose Jacobians are computed at a time."""
THREADS = 4
"""At most; more would wait for the interpreter and hold more Jacobians."""
_POSE = slice(0, 6)
_SHAPE = slice(6, 9)
_FOCAL = 9


@dataclass(frozen=True)
class BundleWeights:
    """Standard deviations and limits of the problem (see :class:`~.solver.PoseConfig`)."""

    smoothing: float
    """Weight of second differences against one frame's mean information."""
    flow_px: float
    huber: float
    shape_spread: tuple[float, float, float]
    focal_spread: float
    prior_scale: float
    """Frames that count as one independent frame: priors are multiplied by it, so that they weigh against evidence
    and not against the number of frames."""


@dataclass(frozen=True)
class _Rows:
    """Contribution of some frames [a, b) to the normal equations."""

    diagonal: np.ndarray
    """[n, 6, 6]."""
    coupling: np.ndarray
    """[n, 6, 6]: rows of the next frame, columns of this one."""
    gradient: np.ndarray
    """[n, 6]."""
    cross: np.ndarray | None
    """[n, 6, G], if requested."""
    globals: np.ndarray | None
    """[G, G + 1]: matrix and gradient, if requested."""
    landmarks: np.ndarray
    """[6, 6]: the landmarks' part of ``diagonal``, summed over the frames."""


class Bundle:
    """State of the problem and its step.

    Args:
        points: pixels [N, R, 2] at the rigid points, NaN where not detected.
        start: first guess with the shape of the R points.
        size: image (height, width).
        flow: optical flow at the R points, or at the first ones of them, or None.
        weights: of all terms.
        unit: pixels of this image per pixel of a 512-pixel image.
    """

    def __init__(
        self,
        points: np.ndarray,
        start: RigidStart,
        size: tuple[int, int],
        flow: PointFlow | None,
        weights: BundleWeights,
        unit: float,
    ) -> None:
        self.weights, self.unit = weights, unit
        self.centre = np.array([size[1] / 2, size[0] / 2])
        self.observed: np.ndarray = np.asarray(np.isfinite(points).all(-1))
        self.points = np.where(self.observed[..., None], points, 0.0)
        self.rotations, self.translations = start.rotations.copy(), start.translations.copy()
        self.shape0, self.shape = start.shape, start.shape.copy()
        self.log_focal0 = self.log_focal = float(np.log(start.focal))
        self.sigma = np.full(points.shape[1], unit)
        self.flow = flow
        self.focal_variance = np.inf
        """Variance of the log focal length that the residuals claim, independent frames counted, the prior left out."""
        self._focal_prior = weights.prior_scale / weights.focal_spread**2

    def viewmats(self) -> np.ndarray:
        """The path as [N, 4, 4]."""
        out = np.tile(np.eye(4), (len(self.rotations), 1, 1))
        out[:, :3, :3], out[:, :3, 3] = self.rotations, self.translations
        return out

    def project(self, begin: int = 0, end: int | None = None) -> np.ndarray:
        """Pixels of the rigid points, [n, R, 2]."""
        p = np.einsum("nij,kj->nki", self.rotations[begin:end], self.shape) + self.translations[begin:end, None]
        return np.exp(self.log_focal) * p[..., :2] / p[..., 2:] + self.centre

    def step(self, *, with_globals: bool, with_time: bool = True, damping: float = 1e-6) -> float:
        """One Gauss-Newton step; returns the largest change of a rotation in radians."""
        count, points = self.points.shape[:2]
        band, gradient = _Band(count), np.zeros((count, 6))
        total = np.zeros((3 * points + 1, 3 * points + 2))
        information = np.zeros((6, 6))
        for begin, end, rows in self._blocks(with_time, with_globals=with_globals):
            band.add(0, begin, rows.diagonal)
            band.add(1, begin, rows.coupling[: count - 1 - begin])
            gradient[begin:end] = rows.gradient
            total += 0.0 if rows.globals is None else rows.globals
            information += rows.landmarks
        if with_time:
            self._add_smoothness(band, gradient, information / max(int(self.observed.any(-1).sum()), 1))
        band.factorise(damping)
        d_globals = np.zeros(3 * points + 1)
        if with_globals:
            self._add_prior(total)
            d_globals = self._reduce(band, gradient, total, with_time)
        d_poses = -band.solve(gradient)
        self.rotations = Rotation.from_rotvec(d_poses[:, :3]).as_matrix() @ self.rotations
        self.translations = self.translations + d_poses[:, 3:]
        self.shape = self.shape + d_globals[:-1].reshape(-1, 3)
        self.log_focal += float(d_globals[-1])
        return float(np.abs(d_poses[:, :3]).max())

    def measure_sigma(self) -> None:
        """Measure each point's own noise: points that expressions move get little weight in the pose."""
        distance = np.linalg.norm(self.project() - self.points, axis=-1)
        some: np.ndarray = np.asarray(self.observed.any(0))
        noise = np.full(len(some), 8.0 * self.unit)
        noise[some] = np.nanmedian(np.where(self.observed, distance, np.nan)[:, some], 0) / 1.177  # Rayleigh median
        self.sigma = np.clip(noise, 0.25 * self.unit, 8.0 * self.unit)

    def _jacobian(self, begin: int, end: int) -> np.ndarray:
        """Derivatives of the projected points by pose, shape and log focal [n, 10, 2, R]; the last are the points.

        Points come last: numpy computes long rows ten times as fast as rows of six or ten columns.
        """
        rotation = self.rotations[begin:end]
        qx, qy, qz = np.moveaxis(rotation @ self.shape.T, 1, 0)  # [n, R], turned but not moved
        x, y, z = (q + t[:, None] for q, t in zip((qx, qy, qz), self.translations[begin:end].T, strict=True))
        scale = np.exp(self.log_focal) / z
        out = np.zeros((end - begin, 10, 2, len(self.shape)))
        for axis, pixel in enumerate((scale * x, scale * y)):
            by_depth = -pixel / z
            along = out[:, _POSE, axis]
            along[:, 3 + axis], along[:, 5] = scale, by_depth
            # d(w x q) = J . (w x q) = (q x J) . w
            along[:, 0], along[:, 1] = qy * by_depth, -qx * by_depth
            if axis == 0:
                along[:, 1] += qz * scale
                along[:, 2] = -qy * scale
            else:
                along[:, 0] -= qz * scale
                along[:, 2] = qx * scale
            row, forward = rotation[:, axis, :, None], rotation[:, 2, :, None]
            out[:, _SHAPE, axis] = scale[:, None] * row + by_depth[:, None] * forward
            out[:, _FOCAL, axis] = pixel
        return out

    def _huber(self, squared: np.ndarray) -> np.ndarray:
        """Weights of iteratively reweighted least squares from squared normalised residuals."""
        return np.minimum(1.0, self.weights.huber / np.sqrt(np.maximum(squared, 1e-12)))

    def _blocks(self, with_time: bool, **wanted: bool) -> "Iterator[tuple[int, int, _Rows]]":
        """Rows of all frames, in order, computed on all cores."""
        spans = list(_chunks(len(self.points)))
        found = map_frames(spans, lambda _, span: self._rows(*span, with_time, **wanted), shared=True, most=THREADS)
        return ((*span, rows) for span, rows in zip(spans, found, strict=True))

    def _rows(
        self, begin: int, end: int, with_time: bool, *, with_globals: bool = False, with_cross: bool = False
    ) -> _Rows:
        """Landmarks of the frames and the optical flow between them and to both neighbours."""
        low, high = max(begin - 1, 0), min(end + 1, len(self.points))
        jacobian, count = self._jacobian(low, high), len(self.shape)
        own = jacobian[begin - low : end - low]
        residual = own[:, _FOCAL] + self.centre[:, None] - self.points[begin:end].swapaxes(1, 2)
        weight = self._huber((residual**2).sum(1) / self.sigma**2) / self.sigma**2 * self.observed[begin:end]
        terms = _Terms([own if with_globals or with_cross else own[:, _POSE], residual[:, None]], weight)
        rows = _Rows(
            terms.sums[:, _POSE, _POSE],
            np.zeros((end - begin, 6, 6)),
            terms.sums[:, _POSE, -1],
            terms.cross(count, _POSE, _SHAPE) if with_cross else None,
            terms.globals(count, _SHAPE) if with_globals else None,
            terms.sums[:, _POSE, _POSE].sum(0),
        )
        if with_time and self.flow is not None and high - low > 1:
            self._add_flow(rows, jacobian, low, begin)
        return rows

    def _add_flow(self, rows: _Rows, jacobian: np.ndarray, low: int, begin: int) -> None:
        """Residual = (projection in n + 1) - (projection in n) - flow, for all pairs that touch ``rows``."""
        assert self.flow is not None
        pairs, count = slice(low, low + len(jacobian) - 1), len(self.shape)
        gap = np.asarray(self.flow.displacement[pairs], np.float64)
        followed = gap.shape[1]
        jacobian = jacobian[..., :followed]
        observed = self.observed[low : low + len(jacobian), :followed]
        good = self.flow.valid[pairs] & np.isfinite(gap).all(-1) & observed[:-1] & observed[1:]
        residual = np.diff(jacobian[:, _FOCAL], axis=0) - np.where(good[..., None], gap, 0.0).swapaxes(1, 2)
        sigma = self.weights.flow_px * self.unit
        weight = self._huber((residual**2).sum(1) / sigma**2) / sigma**2 * good
        more = [np.diff(jacobian[:, 6:], axis=0)] if rows.cross is not None or rows.globals is not None else []
        terms = _Terms([-jacobian[:-1, _POSE], jacobian[1:, _POSE], *more, residual[:, None]], weight)
        first, second, shape = slice(0, 6), slice(6, 12), slice(12, 15)
        lead = begin - low  # 1 if the first pair begins in the frame before
        inside = len(rows.gradient)
        starts = slice(lead, min(lead + inside, len(terms.sums)))  # pairs whose first frame is in this block
        n = starts.stop - starts.start
        ends = slice(0, lead + inside - 1)  # pairs whose second frame is in this block
        m = slice(1 - lead, 1 - lead + len(terms.sums[ends]))
        rows.diagonal[:n] += terms.sums[starts, first, first]
        rows.diagonal[m] += terms.sums[ends, second, second]
        rows.coupling[:n] += terms.sums[starts, second, first]
        rows.gradient[:n] += terms.sums[starts, first, -1]
        rows.gradient[m] += terms.sums[ends, second, -1]
        if rows.globals is not None:
            rows.globals[:] += terms.globals(count, shape, starts)
        if rows.cross is not None:
            rows.cross[:n] += terms.cross(count, first, shape, starts)
            rows.cross[m] += terms.cross(count, second, shape, ends)

    def _add_smoothness(self, band: "_Band", gradient: np.ndarray, information: np.ndarray) -> None:
        """Second differences of the path; a jump (a cut in the footage) is accepted by the robust weight."""
        if len(self.points) < 3:
            return
        turns = Rotation.from_matrix(self.rotations[1:] @ self.rotations[:-1].transpose(0, 2, 1)).as_rotvec()
        steps = np.concatenate([turns, np.diff(self.translations, axis=0)], -1)
        bend = np.diff(steps, axis=0)
        size = np.einsum("ni,ij,nj->n", bend, information, bend)
        limit = 25.0 * max(float(np.median(size)), 1e-12)
        weight = self.weights.smoothing * np.minimum(1.0, np.sqrt(limit / np.maximum(size, 1e-12)))
        matrix = weight[:, None, None] * information
        pull = np.einsum("nij,nj->ni", matrix, bend)
        coefficients = (1.0, -2.0, 1.0)
        for i, a in enumerate(coefficients):
            gradient[i : i + len(bend)] += a * pull
            for j, b in enumerate(coefficients[: i + 1]):
                band.add(i - j, j, a * b * matrix)

    def _add_prior(self, total: np.ndarray) -> None:
        """Pull of shape and focal length to where they began."""
        scale = self.weights.prior_scale
        weight = np.append(np.tile(scale / np.square(self.weights.shape_spread), len(self.shape)), 0.0)
        weight[-1] = self._focal_prior
        offset = np.append((self.shape - self.shape0).reshape(-1), self.log_focal - self.log_focal0)
        index = np.arange(len(weight))
        total[index, index] += weight
        total[:, -1] += weight * offset

    def _reduce(self, band: "_Band", gradient: np.ndarray, total: np.ndarray, with_time: bool) -> np.ndarray:
        """Eliminate the path: the step of the globals; ``gradient`` becomes that of the path after it."""
        reduced = total.copy()
        tail: np.ndarray | None = None
        for begin, end, rows in self._blocks(with_time, with_cross=True):
            assert rows.cross is not None
            right = np.concatenate([rows.cross, gradient[begin:end, :, None]], -1).reshape(6 * (end - begin), -1)
            forward = band.forward(right, begin, tail)
            reduced -= forward[:, :-1].T @ forward
            tail = forward[-12:]
        evidence = 1.0 / float(np.linalg.inv(reduced[:, :-1])[-1, -1]) - self._focal_prior
        self.focal_variance = self.weights.prior_scale / max(evidence, 1e-9)
        step = -np.linalg.solve(reduced[:, :-1], reduced[:, -1])
        for begin, end, rows in self._blocks(with_time, with_cross=True):
            assert rows.cross is not None
            gradient[begin:end] += rows.cross @ step
        return step

    def hold_focal(self, log_focal: float) -> None:
        """Draw the focal length to this value and keep it there."""
        self.log_focal0 = log_focal
        self._focal_prior = 1e12


class _Terms:
    """Products of weighted residual rows.

    Args:
        columns: parts [n, c, 2, K] of the columns at K points: derivatives and, last of all, the residual. The one by
            the log focal length follows those by shape.
        weight: [n, K].
    """

    def __init__(self, columns: list[np.ndarray], weight: np.ndarray) -> None:
        root, widths = np.sqrt(weight)[:, None, None], [part.shape[1] for part in columns]
        self._rows = np.empty((len(weight), sum(widths), 2, weight.shape[1]))
        for part, end in zip(columns, np.cumsum(widths), strict=True):
            np.multiply(part, root, out=self._rows[:, end - part.shape[1] : end])
        flat = self._rows.reshape(len(weight), sum(widths), -1)
        self.sums = flat @ flat.swapaxes(1, 2)
        """[n, c, c]: summed over the points of a frame."""

    def globals(self, count: int, shape: slice, of: slice = slice(None)) -> np.ndarray:
        """[G, G + 1]: products of shape and focal columns among themselves and with the residual, of ``count`` points.

        ``shape``: columns by a point's place.
        """
        rows, sums = self._rows[of], self.sums[of].sum(0)
        own = [
            [np.einsum("nak,nak->k", rows[:, i], rows[:, j]) for j in (*range(shape.start, shape.stop), shape.stop, -1)]
            for i in range(shape.start, shape.stop)
        ]
        at, out = 3 * np.arange(rows.shape[-1]), np.zeros((3 * count + 1, 3 * count + 2))
        for i, row in enumerate(own):
            for j in range(3):
                out[at + i, at + j] = row[j]
            out[at + i, -2] = out[-1, at + i] = row[3]
            out[at + i, -1] = row[4]
        out[-1, -2:] = sums[shape.stop, shape.stop], sums[shape.stop, -1]
        return out

    def cross(self, count: int, pose: slice, shape: slice, of: slice = slice(None)) -> np.ndarray:
        """[n, 6, G]: products of pose columns with shape and focal columns, of ``count`` points."""
        rows = self._rows[of]
        out = np.zeros((len(rows), 6, 3 * count + 1))
        for j in range(3):
            by_place = rows[:, pose] * rows[:, None, shape.start + j]
            np.add(by_place[:, :, 0], by_place[:, :, 1], out=out[:, :, j : 3 * rows.shape[-1] : 3])
        out[..., -1] = self.sums[of, pose, shape.stop]
        return out


class _Band:
    """Symmetric positive definite matrix of 6x6 blocks, banded to the second neighbour in time."""

    def __init__(self, frames: int) -> None:
        self._band = np.zeros((18, 6 * frames))  # LAPACK's lower form: [i - j, j]

    def add(self, distance: int, begin: int, blocks: np.ndarray) -> None:
        """Add blocks [n, 6, 6] whose rows are frame ``begin + k + distance`` and columns frame ``begin + k``."""
        for i in range(6):
            for j in range(6):
                row = 6 * distance + i - j
                if row >= 0:
                    self._band[row, 6 * begin + j : 6 * (begin + len(blocks)) : 6] += blocks[:, i, j]

    def factorise(self, damping: float) -> None:
        """Replace the matrix by its Cholesky factor."""
        self._band[0] = self._band[0] * (1 + damping) + 1e-12
        self._band = cholesky_banded(self._band, overwrite_ab=True, lower=True, check_finite=False)

    def solve(self, right: np.ndarray) -> np.ndarray:
        """Solution for ``right`` [N, 6]."""
        return cho_solve_banded((self._band, True), right.reshape(-1), check_finite=False).reshape(-1, 6)

    def forward(self, right: np.ndarray, begin: int, tail: np.ndarray | None) -> np.ndarray:
        """Rows of L^-1 B from frame ``begin`` on, given those rows of B and the last results of the rows before."""
        first, count = 6 * begin, len(right)
        if tail is not None:
            kept = len(tail)
            for k in range(kept):  # column first - kept + k of the factor reaches rows first .. + 17
                column = self._band[:, first - kept + k]
                reach = min(18 - (kept - k), count)
                right[:reach] -= np.outer(column[kept - k :][:reach], tail[k])
        (solve_triangular,) = get_lapack_funcs(("tbtrs",), (right,))
        solved, info = solve_triangular(self._band[:, first : first + count], right, uplo="L")
        assert info == 0
        return np.asarray(solved)


def _chunks(count: int) -> Iterator[tuple[int, int]]:
    """[begin, end) of CHUNK frames each."""
    return ((begin, min(begin + CHUNK, count)) for begin in range(0, count, CHUNK))
