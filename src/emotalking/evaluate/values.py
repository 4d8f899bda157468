"""A measured number with everything that one must know to compare it: unit, judge, frames, and why it is missing."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

Better = Literal["higher", "lower", "none"]


@dataclass(frozen=True)
class Kind:
    """What a figure of one name is."""

    title: str
    """Column head."""
    unit: str
    better: Better
    decimals: int
    """Digits worth printing."""


KINDS: dict[str, Kind] = {
    "psnr": Kind("PSNR", "dB", "higher", 2),
    "psnr_head": Kind("PSNR head", "dB", "higher", 2),
    "psnr_mouth": Kind("PSNR mouth", "dB", "higher", 2),
    "ssim": Kind("SSIM", "", "higher", 4),
    "lpips": Kind("LPIPS", "", "lower", 4),
    "lmd": Kind("LMD", "px", "lower", 3),
    "sync_e": Kind("Sync-E", "", "lower", 3),
    "sync_c": Kind("Sync-C", "", "higher", 3),
    "aue_u": Kind("AUE-U", "", "lower", 3),
    "aue_l": Kind("AUE-L", "", "lower", 3),
    "aue": Kind("AUE", "", "lower", 3),
    "aue_u_rest": Kind("AUE-U of a face at rest", "", "none", 3),
    "aue_l_rest": Kind("AUE-L of a face at rest", "", "none", 3),
    "v_rmse": Kind("V-RMSE", "", "lower", 3),
    "a_rmse": Kind("A-RMSE", "", "lower", 3),
    "v_sa": Kind("V-SA", "", "higher", 3),
    "a_sa": Kind("A-SA", "", "higher", 3),
    "e_top1": Kind("E-Acc top-1", "%", "higher", 1),
    "e_top3": Kind("E-Acc top-3", "%", "higher", 1),
    "identity": Kind("identity", "", "higher", 3),
    "identity_truth": Kind("identity of the recording's other frames", "", "none", 3),
    "jitter_head": Kind("head jitter", "px", "lower", 3),
    "jitter_head_truth": Kind("head jitter of the recording", "px", "none", 3),
    "jitter_background": Kind("background jitter", "grey levels", "lower", 3),
    "jitter_background_truth": Kind("background jitter of the recording", "grey levels", "none", 3),
    "flicker": Kind("flicker", "grey levels", "lower", 3),
    "flicker_truth": Kind("flicker of the recording", "grey levels", "none", 3),
    "mouth_in_silence": Kind("mouth motion in silence", "", "lower", 3),
    "mouth_in_silence_truth": Kind("mouth motion in silence of the recording", "", "none", 3),
    "fps": Kind("FPS", "frames/s", "higher", 1),
}
"""Every figure that :func:`emotalking.evaluate.score.measure` gives, in the order of the tables.

docs/evaluation.md defines each. Those that end in "_truth" are measured on the subject's own recording in the same way:
what a perfect avatar would get from this judge. "_rest" is what a face that never moves would get.
"""


@dataclass(frozen=True)
class Figure:
    """One number of one system on one run of frames."""

    name: str
    """A key of :data:`KINDS`."""
    value: float
    """nan where it could not be had; infinite for the PSNR of equal pictures."""
    unit: str
    better: Better
    judge: str
    """Who measured; empty: pixels alone."""
    frames: int
    """Frames that entered."""
    missing: int
    """Frames that did not, mostly for want of a face."""
    per_frame: Float[np.ndarray, " N"] | None
    """For confidence intervals and paired tests, nan where missing; the value is their mean, or the root of it."""
    why_not: str = ""
    """One sentence where the value is nan."""


def _mean(values: np.ndarray) -> float:
    return float(values.mean())


def root_mean(values: Float[np.ndarray, " n"]) -> float:
    """Root of the mean: for squares, the RMSE."""
    return float(np.sqrt(values.mean()))


def per_frame(
    name: str,
    values: Float[np.ndarray, " N"],
    judge: str = "",
    why_not: str = "no frame could be measured",
    summary: Callable[[np.ndarray], float] = _mean,
    wanted: Bool[np.ndarray, " N"] | None = None,
) -> Figure:
    """The figure of N frames.

    Args:
        name: a key of :data:`KINDS`.
        values: one a frame; nan: not measured.
        judge: who measured.
        why_not: the reason, should all be nan.
        summary: what makes one number of the values that are there.
        wanted: frames that the figure is defined on (second differences have none at the ends); None: all.
    """
    there = ~np.isnan(values)
    missing = int((~there if wanted is None else wanted & ~there).sum())
    value = summary(values[there]) if there.any() else math.nan
    reason = why_not if math.isnan(value) else ""
    kind = KINDS[name]
    return Figure(name, value, kind.unit, kind.better, judge, int(there.sum()), missing, values, reason)


def single(name: str, value: float, judge: str = "", frames: int = 0, missing: int = 0, why_not: str = "") -> Figure:
    """A figure that is of the run as a whole."""
    kind = KINDS[name]
    return Figure(name, value, kind.unit, kind.better, judge, frames, missing, None, why_not)


def absent(name: str, why_not: str, missing: int = 0) -> Figure:
    """A figure that could not be had.

    Args:
        why_not: one sentence.
        missing: frames that it would have been taken from.
    """
    return single(name, math.nan, missing=missing, why_not=why_not)
