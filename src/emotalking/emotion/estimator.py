"""Valence and arousal of recorded frames from tracked landmarks alone: the embedded estimator."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d, median_filter

from emotalking.subject.layouts import FaceLayout

MEASURES = ("corner_raise", "mouth_width", "inner_brow", "outer_brow", "brow_gap", "lid_gap", "cheek_lid", "jaw")
"""Names of the facial measures, in the order of :func:`face_measures`' columns."""

USUAL = np.array([0.01, 0.79, 0.35, 0.335, 0.45, 0.107, 0.046, 0.12])
"""The measures of a resting, talking adult, in eye-centre distances: coarse means of a few people."""


@runtime_checkable
class EmotionEstimator(Protocol):
    """Reads valence and arousal off a clip."""

    @property
    def name(self) -> str:
        """Name of the method, written into the subject's record."""
        ...

    def estimate(
        self,
        points: Float[np.ndarray, "N P 2"],
        viewmats: Float[np.ndarray, "N 4 4"],
        K: Float[np.ndarray, "3 3"],
        shape: Float[np.ndarray, "P 3"],
        layout: FaceLayout,
        fps: float = 25.0,
    ) -> Float[np.ndarray, "N 2"]:
        """Valence and arousal per frame, each in [-1, 1]."""
        ...


def frontal_points(
    points: Float[np.ndarray, "N P 2"],
    viewmats: Float[np.ndarray, "N 4 4"],
    K: Float[np.ndarray, "3 3"],
    shape: Float[np.ndarray, "P 3"],
    layout: FaceLayout,
) -> Float[np.ndarray, "N P 2"]:
    """Landmarks seen from the front: head pose and distance taken out.

    Each point is put back into the head at its neutral depth: x to the viewer's right, y down, in eye-centre
    distances, origin between the eyes of the neutral shape. What the rigid points still move is taken out as well.
    """
    points, viewmats, shape = points.astype(np.float64), viewmats.astype(np.float64), shape.astype(np.float64)
    camera = np.einsum("nij,pj->npi", viewmats[:, :3, :3], shape) + viewmats[:, None, :3, 3]
    flat = camera[..., :2] / camera[..., 2:]
    offset = (points - flat * K[0, 0] - K[:2, 2]) / K[0, 0]  # on the plane z = 1
    axes = viewmats[:, :2, :2][:, None] - flat[..., None] * viewmats[:, 2, :2][:, None, None]
    moved = np.linalg.solve(axes / camera[..., 2, None, None], offset[..., None])[..., 0]
    eyes = [shape[list(layout.right_upper_lid + layout.right_lower_lid), :2].mean(0)]
    eyes.append(shape[list(layout.left_upper_lid + layout.left_lower_lid), :2].mean(0))
    unit = np.linalg.norm(eyes[1] - eyes[0])
    moved -= np.median(moved[:, list(layout.rigid)], axis=1, keepdims=True)
    return (shape[:, :2] + moved - (eyes[0] + eyes[1]) / 2) / unit * np.array([1.0, -1.0])


def face_measures(frontal: Float[np.ndarray, "N P 2"], layout: FaceLayout) -> Float[np.ndarray, "N 8"]:
    """What FACS looks at, as lengths in eye-centre distances; columns are :data:`MEASURES`, means of both sides."""
    lips = frontal[:, list(layout.lips_outer)]
    inner = frontal[:, list(layout.lips_inner)]
    half = len(layout.lips_outer) // 2
    left, right = lips[:, 0], lips[:, half]
    quarter = len(layout.lips_outer) // 4
    middle = (lips[:, quarter, 1] + lips[:, half + quarter, 1]) / 2
    quarter = len(layout.lips_inner) // 4
    jaw = inner[:, -quarter, 1] - inner[:, quarter, 1]

    brows, gaps, lowers = [], [], []
    for side in ("right", "left"):
        brow = frontal[:, list(getattr(layout, f"{side}_brow"))]
        order = np.argsort(np.abs(brow[..., 0].mean(0)))
        near, far = brow[:, order[: max(len(order) // 3, 1)]], brow[:, order[len(order) // 3 :]]
        brows.append((-near[..., 1].mean(1), -far[..., 1].mean(1), np.abs(near[..., 0].mean(1))))
        upper = frontal[:, list(getattr(layout, f"{side}_upper_lid"))[1:-1]]
        lower = frontal[:, list(getattr(layout, f"{side}_lower_lid"))[1:-1]]
        centre = slice(upper.shape[1] // 4, -(upper.shape[1] // 4) or None)
        gaps.append(lower[:, centre, 1].mean(1) - upper[:, centre, 1].mean(1))
        lowers.append(lower[:, centre, 1].mean(1))
    return np.stack(
        [
            middle - (left[:, 1] + right[:, 1]) / 2,
            right[:, 0] - left[:, 0],
            (brows[0][0] + brows[1][0]) / 2,
            (brows[0][1] + brows[1][1]) / 2,
            brows[0][2] + brows[1][2],
            (gaps[0] + gaps[1]) / 2,
            (lowers[0] + lowers[1]) / 2,
            jaw,
        ],
        1,
    )


@dataclass(frozen=True)
class LandmarkEmotion:
    """Coarse valence and arousal by rule from landmarks; no network, no weights.

    Deviation: the paper reads EmoNet. The rules are FACS knowledge with hand-set weights: raised and widened lip
    corners and raised lower lids read as pleasant, lowered or knit brows, oblique brows and dropped corners as
    unpleasant; open lids, raised or knit brows and a wide mouth as aroused, drooping lids as calm. Talking is taken out
    by a low-pass of half a second. The result orders the frames of one person; its absolute size means little.
    """

    centred: bool = True
    """Measure from the person's own median face, so that a resting face reads neutral. Without it the measures are
    compared with a usual face: for clips that hold one emotion throughout, and cruder."""
    smoothing_s: float = 0.5
    """Width of the temporal low-pass in seconds (about two standard deviations)."""

    @property
    def name(self) -> str:
        """``landmark-rules``."""
        return "landmark-rules"

    def estimate(
        self,
        points: Float[np.ndarray, "N P 2"],
        viewmats: Float[np.ndarray, "N 4 4"],
        K: Float[np.ndarray, "3 3"],
        shape: Float[np.ndarray, "P 3"],
        layout: FaceLayout,
        fps: float = 25.0,
    ) -> Float[np.ndarray, "N 2"]:
        """Valence and arousal per frame.

        Args:
            points: landmarks in pixels, finite in every frame.
            viewmats: world-to-camera poses, OpenCV axes.
            K: camera intrinsics in pixels.
            shape: neutral landmarks in the head frame, world units.
            layout: meaning of the landmarks.
            fps: frames a second.

        Returns:
            float32 in [-1, 1], smooth over time.

        Raises:
            ValueError: if a point is not finite.
        """
        if not np.isfinite(points).all():
            raise ValueError("points must be finite: fill frames without a face before")
        if len(points) == 0:
            return np.zeros((0, 2), np.float32)
        measures = face_measures(frontal_points(points, viewmats, K, shape, layout), layout)
        # A blink is shorter than the median's window; words are shorter than the Gaussian.
        window = min(2 * round(0.2 * fps) + 1, 2 * len(points) - 1)
        measures = median_filter(measures, size=(max(window, 1), 1), mode="nearest")
        measures = gaussian_filter1d(measures, self.smoothing_s * fps / 2, axis=0, mode="nearest")
        change = measures - (np.median(measures, axis=0) if self.centred else USUAL)
        return np.tanh(_read(change)).astype(np.float32)


def _read(change: Float[np.ndarray, "N 8"]) -> Float[np.ndarray, "N 2"]:
    """Valence and arousal before squashing, from changes of the measures."""
    corner, width, inner, outer, gap, lids, lower, jaw = change.T
    lowered = np.maximum(-inner, 0)
    oblique = np.maximum(inner - outer, 0)
    knit = np.maximum(-gap, 0)
    valence = 9 * corner + 2 * width - 7 * lowered - 6 * oblique - 2 * knit - 3 * lower
    arousal = 8 * lids + 2 * (inner + outer) + 9 * lowered + 1.5 * knit + 1.2 * width + 2 * np.maximum(corner, 0) + jaw
    return np.stack([valence, arousal], 1)
