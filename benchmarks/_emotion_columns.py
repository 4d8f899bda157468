"""What an emotion leaves alone: who it is, steadiness, the timing of the lips; and how it moves from one to another.

Of each point, against the neutral frames of the same person and the same sounds.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from expression_bases import PLACES

from emotalking.errors import InputError
from emotalking.networks.face_recogniser import FaceRecogniser
from emotalking.preprocess.landmarks import MEDIAPIPE_LAYOUT

IBUG = list(MEDIAPIPE_LAYOUT.ibug68)
FACES = 6
"""Frames of a point whose vectors are averaged."""
STEADY = [k for name in ("brow_inner", "brow_outer", "forehead", "cheek", "cheek_outer", "wing") for k in PLACES[name]]
"""Points that neither speech nor blinks move much."""
UPPER, LOWER = (13, 312, 82), (14, 317, 87)
"""Inner edges of the lips."""


def identity(series: Sequence[list[np.ndarray]], pixels: Sequence[np.ndarray]) -> dict[str, Any] | None:
    """Distance of dlib's mean vectors to that of neutral (one person: up to .6); None where dlib is not installed.

    Args:
        series: images of neutral, then of every point.
        pixels: their points [N, 478, 3], nan without a face.
    """
    try:
        recogniser = FaceRecogniser()
    except InputError:
        return None

    def vector(images: list[np.ndarray], points: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        seen = [k for k in chosen if np.isfinite(points[k]).all()]
        return np.mean([recogniser.describe(images[k], points[k][IBUG, :2]) for k in seen], 0)

    count = len(series[0])
    some = np.linspace(0, count - 1, min(FACES, count)).round().astype(int)
    plain = vector(series[0], pixels[0], some)
    halves = [vector(series[0], pixels[0], half) for half in np.array_split(np.arange(count), 2)]
    away = [vector(images, points, some) - plain for images, points in zip(series[1:], pixels[1:], strict=True)]
    return {
        "points": [round(float(np.linalg.norm(one)), 3) for one in away],
        "halves_of_neutral": round(float(np.linalg.norm(halves[0] - halves[1])), 3),
    }


def jitter(points: Sequence[np.ndarray], runs: int = 1) -> list[float]:
    """Root mean square of the second differences of steady points, of every point over that of neutral.

    Args:
        points: in the head frame [N, 478, 3], of neutral, then of every point.
        runs: equal runs of neighbouring frames that each consists of.
    """

    def of(one: np.ndarray) -> float:
        bends = [np.diff(run[:, STEADY, :2], 2, axis=0) for run in np.array_split(one, runs)]
        return float(np.sqrt(np.nanmean(np.square(np.concatenate(bends)))))

    return [round(of(one) / of(points[0]), 3) for one in points[1:]]


def opening(points: np.ndarray) -> np.ndarray:
    """[N] distance of the inner edges of the lips."""
    return points[:, list(LOWER), 1].mean(1) - points[:, list(UPPER), 1].mean(1)


def lips(points: Sequence[np.ndarray]) -> dict[str, list[float]]:
    """Of every point: correlation of the opening with neutral's, frame by frame, and its spread over neutral's."""
    plain = opening(points[0])
    rows: dict[str, list[float]] = {"r": [], "spread": []}
    for one in points[1:]:
        gap = opening(one)
        seen = np.isfinite(gap) & np.isfinite(plain)
        rows["r"].append(round(float(np.corrcoef(gap[seen], plain[seen])[0, 1]), 3))
        rows["spread"].append(round(float(gap[seen].std() / plain[seen].std()), 3))
    return rows


def jump(points: np.ndarray, plain: np.ndarray) -> dict[str, float]:
    """Largest step of steady points from a frame to the next: while emotion moves, and while it is neutral.

    Args:
        points: in the head frame [N, 478, 3], of moving emotion.
        plain: of neutral.
    """

    def steps(one: np.ndarray) -> np.ndarray:
        return np.linalg.norm(np.diff(one[:, STEADY, :2], axis=0), axis=-1).mean(1)

    moving, still = steps(points), steps(plain)
    return {
        "largest": round(float(np.nanmax(moving)), 4),
        "median": round(float(np.nanmedian(moving)), 4),
        "largest_neutral": round(float(np.nanmax(still)), 4),
    }
