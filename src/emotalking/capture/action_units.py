"""Facial action units from landmarks, in OpenFace's unit (intensity 0 to 5).

The points are carried back into the head frame with the solved pose, so that a turning head moves no unit; there, a few
distances between lids, brows, cheeks and lips are compared with the same person's own resting face in the same clip.

Deviation: the paper runs OpenFace, whose licence forbids shipping it and whose models need a download; an ``au.csv``
that OpenFace wrote can be put in place of ours (:func:`read_openface`).
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.ndimage import maximum_filter1d, percentile_filter
from scipy.signal import savgol_filter

from emotalking.errors import UserError
from emotalking.subject.layouts import MODEL_AUS, FaceLayout
from emotalking.subject.tables import read_table

__all__ = ["ALL_AUS", "MODEL_AUS", "action_units", "head_points", "lid_opening", "read_openface"]

ALL_AUS = (*MODEL_AUS[:-1], "AU25", "AU45")
"""Units written to ``au.csv``."""

_CHEEKS = {"mediapipe478": ((50, 117, 118, 119), (280, 346, 347, 348))}
"""Cheek points (person's right, left) of the layouts that have any."""

# World units (about metres) of movement that make intensity 5.
_BROW_RAISE = 0.008
_BROW_LOWER = 0.006
_CHEEK_RAISE = 0.006
_LIP_GAP = 0.020
# Shares of the person's own eye opening that make intensity 5.
_LID_RAISE = 0.50
_LID_TIGHTEN = 0.30


def head_points(
    points: Float[np.ndarray, "N K 2"],
    viewmats: Float[np.ndarray, "N 4 4"],
    focal: float,
    shape: Float[np.ndarray, "K 3"],
    size: tuple[int, int],
) -> Float[np.ndarray, "N K 3"]:
    """Landmarks in the head frame: each pixel is carried back to the depth of its neutral point.

    Args:
        points: pixels.
        viewmats: head to camera.
        focal: pixels.
        shape: neutral face.
        size: image (height, width).
    """
    rotation, translation = viewmats[:, :3, :3], viewmats[:, :3, 3]
    depth = np.einsum("nj,kj->nk", rotation[:, 2], shape) + translation[:, 2:]
    xy = (points - np.array([size[1] / 2, size[0] / 2])) / focal * depth[..., None]
    camera = np.concatenate([xy, depth[..., None]], -1) - translation[:, None]
    return np.einsum("nij,nki->nkj", rotation, camera)


def lid_opening(head: Float[np.ndarray, "N K 3"], layout: FaceLayout) -> Float[np.ndarray, "N 2"]:
    """Mean height of each eye's opening over its width; (person's right, left)."""
    sides = []
    for upper, lower in (
        (layout.right_upper_lid, layout.right_lower_lid),
        (layout.left_upper_lid, layout.left_lower_lid),
    ):
        width = np.linalg.norm(head[:, upper[0], :2] - head[:, upper[-1], :2], axis=-1)
        gap = np.mean([head[:, u, 1] - head[:, low, 1] for u, low in zip(upper[1:-1], lower[1:-1], strict=True)], 0)
        sides.append(gap / np.maximum(np.median(width), 1e-6))
    return np.stack(sides, -1)


def action_units(head: Float[np.ndarray, "N K 3"], layout: FaceLayout, fps: float | int = 25) -> dict[str, np.ndarray]:
    """Intensities 0..5 of :data:`ALL_AUS`, each [N].

    Args:
        head: landmarks in the head frame (:func:`head_points`).
        layout: names the points.
        fps: frames a second.
    """
    eyes = lid_opening(head, layout)
    blink, rest = _blink(eyes.mean(-1), fps)
    # Lid and cheek measures mean nothing while the lids move for a blink: hold what was before.
    closing = maximum_filter1d(blink, 5) > 0.6

    def sided(right: tuple[int, ...], left: tuple[int, ...]) -> np.ndarray:
        return (head[:, list(right), 1].mean(-1) + head[:, list(left), 1].mean(-1)) / 2

    corners = (
        (layout.right_upper_lid[0], layout.right_upper_lid[-1]),
        (
            layout.left_upper_lid[0],
            layout.left_upper_lid[-1],
        ),
    )
    eye_line = sided(*corners)
    inner_brow = sided(layout.right_brow[-2:], layout.left_brow[-2:]) - eye_line
    brow_gap = np.linalg.norm(head[:, layout.right_brow[-1], :2] - head[:, layout.left_brow[-1], :2], axis=-1)
    lower_lid = sided(_middle(layout.right_lower_lid), _middle(layout.left_lower_lid)) - eye_line
    raise_ = _calm(inner_brow - np.percentile(inner_brow, 40), closing, fps)
    frown = _calm((np.percentile(brow_gap, 60) - brow_gap) + np.maximum(-raise_, 0), closing, fps)
    usual = max(float(np.median(rest)), 1e-6)
    opening = _calm(eyes.mean(-1) / usual - 1.0, closing, fps)
    eye_height = usual * np.linalg.norm(np.median(head[:, corners[0][0], :2] - head[:, corners[0][1], :2], axis=0))
    tighten = _calm((lower_lid - np.percentile(lower_lid, 40)) / max(eye_height, 1e-6), closing, fps)
    cheek = _calm(_cheek_raise(head, layout, eye_line), closing, fps)
    gap = _lip_gap(head, layout)
    return {
        "AU01": _scaled(raise_, 0.001, _BROW_RAISE),
        "AU04": _scaled(frown, 0.001, _BROW_LOWER),
        "AU05": _scaled(opening, 0.08, _LID_RAISE),
        "AU06": _scaled(cheek, 0.0008, _CHEEK_RAISE),
        "AU07": _scaled(tighten, 0.06, _LID_TIGHTEN),
        "AU25": _scaled(gap - np.percentile(gap, 5), 0.0005, _LIP_GAP),
        "AU45": blink,
    }


def _middle(lid: tuple[int, ...]) -> tuple[int, ...]:
    """The points of a lid that are well away from its corners."""
    return lid[1:-1] if len(lid) < 6 else lid[2:-2]


def _blink(opening: np.ndarray, fps: float | int) -> tuple[np.ndarray, np.ndarray]:
    """AU45 and the resting eye opening around each frame.

    The rest follows slow changes (a gaze that goes down lowers the lids for long; a blink lasts a fifth of a second).
    """
    window = max(int(1.6 * fps) | 1, 3)
    rest = percentile_filter(opening, 75, size=min(window, len(opening)), mode="nearest")
    rest = np.asarray(savgol_filter(rest, window, 1)) if len(rest) > window else rest
    usual = float(np.median(rest))
    rest = np.clip(rest, 0.5 * usual, 1.3 * usual)
    # Closed eyes of this person: the deepest blinks seen, if there are any; detectors leave a slit open.
    closed = min(float(np.percentile(opening, 0.5)), 0.4 * usual)
    shut = (rest - opening) / np.maximum(rest - closed, 1e-6)
    return np.clip((shut - 0.2) / 0.8, 0, 1) * 5.0, rest


def _cheek_raise(head: np.ndarray, layout: FaceLayout, eye_line: np.ndarray) -> np.ndarray:
    """Cheeks up towards the eyes; where the layout has none, the mouth's corners stand in at half weight."""
    if layout.name in _CHEEKS:
        right, left = _CHEEKS[layout.name]
        height = (head[:, right, 1].mean(-1) + head[:, left, 1].mean(-1)) / 2 - eye_line
        return height - np.percentile(height, 40)
    corners = (head[:, layout.lips_outer[0], 1] + head[:, layout.ibug68[54], 1]) / 2 - eye_line
    return (corners - np.percentile(corners, 40)) / 2


def _lip_gap(head: np.ndarray, layout: FaceLayout) -> np.ndarray:
    """Mean height of the inner lips' opening at its three middle pairs (iBUG 61-63 over 67-65)."""
    pairs = [(layout.ibug68[61], layout.ibug68[67]), (layout.ibug68[62], layout.ibug68[66])]
    pairs.append((layout.ibug68[63], layout.ibug68[65]))
    return np.mean([head[:, a, 1] - head[:, b, 1] for a, b in pairs], 0)


def _calm(values: np.ndarray, closing: np.ndarray, fps: float | int) -> np.ndarray:
    """Bridge the frames of a blink and smooth over a third of a second."""
    good = np.flatnonzero(~closing)
    if len(good) >= 2:
        values = np.interp(np.arange(len(values)), good, values[good])
    window = max(int(fps / 3) | 1, 5)
    return np.asarray(savgol_filter(values, window, 2)) if len(values) > window else values


def _scaled(values: np.ndarray, noise: float, full: float) -> np.ndarray:
    """Movement to intensity: nothing below ``noise``, 5 at ``full``."""
    return np.clip((values - noise) / (full - noise), 0, 1) * 5.0


def read_openface(path: str | Path, num_frames: int) -> dict[str, np.ndarray]:
    """Intensities from a CSV that OpenFace's FeatureExtraction wrote, by name.

    Raises:
        UserError: if the file has not one row a frame, or lacks a unit of :data:`ALL_AUS`.
    """
    table = read_table(Path(path))
    out = {name: table[f"{name}_r"] for name in ALL_AUS if f"{name}_r" in table}
    missing = sorted(set(ALL_AUS) - set(out))
    if missing:
        raise UserError(f"{path} lacks the columns {', '.join(f'{m}_r' for m in missing)}; run OpenFace with -aus.")
    rows = len(out["AU45"])
    if rows != num_frames:
        raise UserError(
            f"{path} has {rows} rows for {num_frames} frames; run OpenFace on the same clip at 25 frames a second."
        )
    return out
