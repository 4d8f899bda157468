"""Metrics of the lips: where their landmarks are, how they move, and how well they fit the sound."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from emotalking.data.frame import lip_gap
from emotalking.evaluate.metrics.base import Metric, MetricSpec, missing, per_frame, register, single
from emotalking.evaluate.observation import Observation

LIPS = slice(48, 68)
"""iBUG numbers of the lips' points."""
PARTS = ("opening", "width")
"""What :func:`lip_series` returns."""
MIN_FRAMES = 10
"""Frames with a face in both series that a correlation needs."""
MAX_LAG = 10
"""Largest shift in frames that is searched for the lag."""
MIN_PEAK = 0.3
"""Correlation at the best shift under which a lag is not stated: smooth unrelated series of 160
frames reach it in one of five cases, of 400 frames in one of seventy."""
_CONSTANT = 1e-9
"""Standard deviation over the largest value under which a series counts as constant."""


class SeriesScores(NamedTuple):
    """Agreement of a rendered with a recorded series; nan where it is undefined."""

    r: float
    """Pearson correlation."""
    spread: float
    """Standard deviation of the rendered series over that of the recorded one."""
    lag: float
    """Shift at which their cross-correlation peaks, ms; positive: the rendered series is late."""


LIP_MOTION = tuple(f"{part}_{score}" for part in PARTS for score in SeriesScores._fields)
"""Metrics of :func:`series_scores`."""


def eye_distance(points: Float[np.ndarray, "N 68 2"]) -> Float[np.ndarray, " N"]:
    """Distance between the centres of the eyes, each the middle of its two corners (iBUG), in the points' unit."""
    eyes = points[:, [42, 45]].mean(1) - points[:, [36, 39]].mean(1)
    return np.linalg.norm(eyes, axis=-1)


def lip_series(points: Float[np.ndarray, "N 68 2"]) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Opening and width of the mouth in each frame, in distances between the eyes.

    Opening: ``data.frame.lip_gap``. Width: distance of the corners of the mouth (iBUG 48, 54). Both are divided by the
    frame's own :func:`eye_distance`, whose ends lids do not move: the image's size, the head's distance and its roll
    have no effect. A turn to the side shortens width and eyes alike
    but not the opening (1.5 % too large at 10 degrees); a nod shortens the opening alone (1.5 % at 10 degrees).

    Args:
        points: iBUG landmarks, any unit; nan without a face.

    Returns:
        Both nan without a face.
    """
    distance = eye_distance(points)
    width = np.linalg.norm(points[:, 54] - points[:, 48], axis=-1)
    return lip_gap(points) / distance, width / distance


def series_scores(
    rendered: Float[np.ndarray, " N"], recorded: Float[np.ndarray, " N"], fps: float | int
) -> SeriesScores:
    """Correlation, relative spread and lag of a rendered series against the recorded one.

    Args:
        rendered: one value a frame, frames consecutive in time; nan without a face.
        recorded: of the same frames.
        fps: frames per second.

    Returns:
        ``r`` and ``spread`` over frames that both series have: nan with fewer than :data:`MIN_FRAMES` of them, ``r``
        if a series is constant, ``spread`` if the recorded one is. ``lag`` is that of :func:`series_lag`.
    """
    both = np.isfinite(rendered) & np.isfinite(recorded)
    ours, theirs = rendered[both], recorded[both]
    spread = float("nan")
    if len(ours) >= MIN_FRAMES and not _constant(theirs):
        spread = 0.0 if _constant(ours) else float(ours.std() / theirs.std())
    return SeriesScores(_pearson(rendered, recorded), spread, series_lag(rendered, recorded, fps))


def series_lag(rendered: Float[np.ndarray, " N"], recorded: Float[np.ndarray, " N"], fps: float | int) -> float:
    """Shift at which the cross-correlation of two series peaks, ms; positive: the rendered series is late.

    Pearson's r over the pairs ``rendered[t + k]``, ``recorded[t]`` that both have, for shifts k within
    +-:data:`MAX_LAG` that leave at least half of the pairs; a parabola through the best shift and its neighbours.

    Args:
        rendered: as in :func:`series_scores`.
        recorded: as in :func:`series_scores`.
        fps: frames per second.

    Returns:
        nan if too few frames have both, a series is constant, or no r inside the range is the largest and at least
        :data:`MIN_PEAK`: the delay of what does not follow at all has no meaning.
    """
    pairs = int((np.isfinite(rendered) & np.isfinite(recorded)).sum())
    curve = np.full(2 * MAX_LAG + 1, np.nan)
    for at, shift in enumerate(range(-MAX_LAG, MAX_LAG + 1)):
        count = len(rendered) - abs(shift)
        if count >= MIN_FRAMES:
            late, early = rendered[max(shift, 0) :][:count], recorded[max(-shift, 0) :][:count]
            curve[at] = _pearson(late, early, max(MIN_FRAMES, pairs // 2))
    if np.isnan(curve).all():
        return float("nan")
    best = int(np.nanargmax(curve))
    inside = 0 < best < 2 * MAX_LAG
    if not inside or np.isnan(curve[best - 1 : best + 2]).any() or curve[best] < MIN_PEAK:
        return float("nan")
    before, peak, after = curve[best - 1 : best + 2]
    bend = before - 2 * peak + after
    offset = 0.0 if bend == 0 else (before - after) / (2 * bend)
    return float(1000 * (best - MAX_LAG + offset) / fps)


def apart(values: Float[np.ndarray, " N"], runs: Sequence[slice]) -> Float[np.ndarray, " M"]:
    """The series with so many nan behind each run that no shift of :func:`series_lag` pairs frames of two runs."""
    gap = np.full(MAX_LAG, np.nan)
    return np.concatenate([np.concatenate([values[run], gap]) for run in runs])


def _pearson(a: Float[np.ndarray, " N"], b: Float[np.ndarray, " N"], least: int = MIN_FRAMES) -> float:
    """Pearson's r over what both have; nan with fewer than ``least`` values or a constant series."""
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    if len(a) < least or _constant(a) or _constant(b):
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def _constant(values: Float[np.ndarray, " n"]) -> bool:
    return float(values.std()) <= _CONSTANT * float(np.abs(values).max(initial=0))


def landmark_distance(
    points: Float[np.ndarray, "N 68 2"], truth: Float[np.ndarray, "N 68 2"]
) -> Float[np.ndarray, " N"]:
    """LMD of each frame: mean distance of the lips' landmarks (iBUG 48-67) from the recorded ones, px of the frame.

    Each set less its own mean, so that a shifted mouth costs nothing; mean Euclidean distance of the 20 points,
    nan where one of the frames shows no face (docs/paper.md 9.1, TalkingGaussian's script).
    """
    a, b = points[:, LIPS], truth[:, LIPS]
    return np.linalg.norm((a - a.mean(1, keepdims=True)) - (b - b.mean(1, keepdims=True)), axis=-1).mean(1)


def _lmd(name: str, run: Observation) -> Metric:
    return per_frame(name, landmark_distance(run.faces.points, run.recorded_faces.points), run.detector)


def _lip_motion(name: str, run: Observation) -> Metric:
    """Lips of the scored frames against the recorded ones; of the recording, those of its mirrored frames."""
    shown = run.mirrored_found if run.condition.of_recording else run.faces
    if shown is None:
        return missing(name, "no face was found in the mirrored frames", run.count)
    part, score = name.split("_")
    at = PARTS.index(part)
    ours, theirs = (apart(lip_series(faces.points)[at], run.runs) for faces in (shown, run.recorded_faces))
    scores = series_scores(ours, theirs, run.rate)
    value: float = getattr(scores, score)
    frames = int((np.isfinite(ours) & np.isfinite(theirs)).sum())
    reason = ""
    if np.isnan(value):
        reason = f"the {part} of the mouth never changes"
        if frames < MIN_FRAMES:
            reason = f"{frames} frames show a face both in the recording and in what is scored: {MIN_FRAMES} are needed"
        elif score == "lag" and not np.isnan(scores.r):
            reason = f"the cross-correlation has no peak above {MIN_PEAK:g} within {MAX_LAG} frames"
    return single(name, value, run.detector, frames, run.count - frames, reason)


def _sync(name: str, run: Observation) -> Metric:
    scores = run.sync
    assert scores is not None
    error = name == "sync_e"
    value = scores.error if error else scores.confidence
    series = scores.per_window if error else scores.margin
    metric = single(name, value, scores.expert, int(np.isfinite(series).sum()), run.lost)
    return replace(metric, per_frame=series)


register(
    "lmd",
    MetricSpec(
        "LMD",
        "px",
        "lower",
        measure=_lmd,
        needs=("faces", "recorded_faces"),
        undefined="no frame shows a face both in the recording and in what is scored",
        columns={"self": 4},
        ablation={"self": 6},
        baseline=True,
        over_time=True,
    ),
)
_lip_motion_spec = partial(MetricSpec, measure=_lip_motion, needs=("faces", "recorded_faces"), of_recording=True)
for _part in PARTS:
    register(f"{_part}_r", _lip_motion_spec(f"{_part} r", better="higher"))
    register(f"{_part}_spread", _lip_motion_spec(f"{_part} spread", target=1.0, digits=2))
    register(f"{_part}_lag", _lip_motion_spec(f"{_part} lag", "ms", target=0.0, digits=0, consecutive=True))
_sync_spec = partial(
    MetricSpec,
    measure=_sync,
    needs=("faces", "sync"),
    consecutive=True,
    of_recording=True,
    columns={"self": 5, "cross": 1, "emotion": 1},
)
register("sync_e", _sync_spec("Sync-E", better="lower", ablation={"self": 7, "cross": 10}))
register("sync_c", _sync_spec("Sync-C", better="higher", ablation={"self": 2, "cross": 11, "emotion": 12}))
