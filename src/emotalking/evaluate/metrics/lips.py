"""Metrics of the lips: where their landmarks are, and how well they fit the sound."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from emotalking.evaluate.metrics.base import Metric, MetricSpec, per_frame, register, single
from emotalking.evaluate.observation import Observation

LIPS = slice(48, 68)
"""iBUG numbers of the lips' points."""


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
        of_recording=False,
        columns={"self": 4},
        ablation={"self": 6},
        baseline=True,
        over_time=True,
    ),
)
register(
    "sync_e",
    MetricSpec(
        "Sync-E",
        "",
        "lower",
        measure=_sync,
        needs=("faces", "sync"),
        consecutive=True,
        columns={"self": 5, "cross": 1, "emotion": 1},
        ablation={"self": 7, "cross": 10},
    ),
)
register(
    "sync_c",
    MetricSpec(
        "Sync-C",
        "",
        "higher",
        measure=_sync,
        needs=("faces", "sync"),
        consecutive=True,
        columns={"self": 5, "cross": 1, "emotion": 1},
        ablation={"self": 2, "cross": 11, "emotion": 12},
    ),
)
