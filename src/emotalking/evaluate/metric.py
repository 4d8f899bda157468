"""A measured number with everything that one must know to compare it: unit, model, frames, and why it is missing."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

Better = Literal["higher", "lower", "none"]


@dataclass(frozen=True)
class MetricSpec:
    """What a metric of one name is."""

    title: str
    """Column head."""
    unit: str
    better: Better
    decimals: int
    """Digits worth printing."""


METRICS: dict[str, MetricSpec] = {
    "psnr": MetricSpec("PSNR", "dB", "higher", 2),
    "psnr_head": MetricSpec("PSNR head", "dB", "higher", 2),
    "psnr_mouth": MetricSpec("PSNR mouth", "dB", "higher", 2),
    "ssim": MetricSpec("SSIM", "", "higher", 4),
    "lpips": MetricSpec("LPIPS", "", "lower", 4),
    "lmd": MetricSpec("LMD", "px", "lower", 3),
    "sync_e": MetricSpec("Sync-E", "", "lower", 3),
    "sync_c": MetricSpec("Sync-C", "", "higher", 3),
    "aue_u": MetricSpec("AUE-U", "", "lower", 3),
    "aue_l": MetricSpec("AUE-L", "", "lower", 3),
    "aue": MetricSpec("AUE", "", "lower", 3),
    "aue_u_rest": MetricSpec("AUE-U of a face at rest", "", "none", 3),
    "aue_l_rest": MetricSpec("AUE-L of a face at rest", "", "none", 3),
    "v_rmse": MetricSpec("V-RMSE", "", "lower", 3),
    "a_rmse": MetricSpec("A-RMSE", "", "lower", 3),
    "v_sa": MetricSpec("V-SA", "", "higher", 3),
    "a_sa": MetricSpec("A-SA", "", "higher", 3),
    "e_top1": MetricSpec("E-Acc top-1", "%", "higher", 1),
    "e_top3": MetricSpec("E-Acc top-3", "%", "higher", 1),
    "identity": MetricSpec("identity", "", "higher", 3),
    "identity_truth": MetricSpec("identity of the recording's other frames", "", "none", 3),
    "jitter_head": MetricSpec("head jitter", "px", "lower", 3),
    "jitter_head_truth": MetricSpec("head jitter of the recording", "px", "none", 3),
    "jitter_background": MetricSpec("background jitter", "grey levels", "lower", 3),
    "jitter_background_truth": MetricSpec("background jitter of the recording", "grey levels", "none", 3),
    "flicker": MetricSpec("flicker", "grey levels", "lower", 3),
    "flicker_truth": MetricSpec("flicker of the recording", "grey levels", "none", 3),
    "mouth_in_silence": MetricSpec("mouth motion in silence", "", "lower", 3),
    "mouth_in_silence_truth": MetricSpec("mouth motion in silence of the recording", "", "none", 3),
    "fps": MetricSpec("FPS", "frames/s", "higher", 1),
}
"""Every metric that :func:`emotalking.evaluate.measure.measure` gives, in the order of the tables.

docs/evaluation.md defines each. Those that end in "_truth" are measured on the subject's own recording in the same way:
what a perfect avatar would get from this model. "_rest" is what a face that never moves would get.
"""


@dataclass(frozen=True)
class Metric:
    """One number of one system on one run of frames."""

    name: str
    """A key of :data:`METRICS`."""
    value: float
    """nan where it could not be had; infinite for the PSNR of equal images."""
    unit: str
    better: Better
    model: str
    """Who measured; empty: pixels alone."""
    frames: int
    """Frames that entered."""
    missing: int
    """Frames that did not, mostly for want of a face."""
    per_frame: Float[np.ndarray, " N"] | None
    """For confidence intervals and paired tests, nan where missing; the value is their mean, or the root of it."""
    reason: str = ""
    """One sentence where the value is nan."""


def _mean(values: np.ndarray) -> float:
    return float(values.mean())


def root_mean(values: Float[np.ndarray, " n"]) -> float:
    """Root of the mean: for squares, the RMSE."""
    return float(np.sqrt(values.mean()))


def per_frame(
    name: str,
    values: Float[np.ndarray, " N"],
    model: str = "",
    reason: str = "no frame could be measured",
    summary: Callable[[np.ndarray], float] = _mean,
    wanted: Bool[np.ndarray, " N"] | None = None,
) -> Metric:
    """The metric of N frames.

    Args:
        name: a key of :data:`METRICS`.
        values: one a frame; nan: not measured.
        model: who measured.
        reason: the reason, should all be nan.
        summary: what makes one number of the values that are there.
        wanted: frames that the metric is defined on (second differences have none at the ends); None: all.
    """
    there = ~np.isnan(values)
    missing = int((~there if wanted is None else wanted & ~there).sum())
    value = summary(values[there]) if there.any() else math.nan
    reason = reason if math.isnan(value) else ""
    kind = METRICS[name]
    return Metric(name, value, kind.unit, kind.better, model, int(there.sum()), missing, values, reason)


def single(name: str, value: float, model: str = "", frames: int = 0, missing: int = 0, reason: str = "") -> Metric:
    """A metric that is of the run as a whole."""
    kind = METRICS[name]
    return Metric(name, value, kind.unit, kind.better, model, frames, missing, None, reason)


def missing(name: str, reason: str, missing: int = 0) -> Metric:
    """A metric that could not be had.

    Args:
        reason: one sentence.
        missing: frames that it would have been taken from.
    """
    return single(name, math.nan, missing=missing, reason=reason)
