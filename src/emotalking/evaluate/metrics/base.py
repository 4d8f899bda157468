"""The table of metrics: what each is called, needs and means, and a measured value of one."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from emotalking.evaluate.config import Scenario
from emotalking.evaluate.evaluation_models import EvaluationModels
from emotalking.evaluate.observation import Need, Observation, RenderedFrame

Better = Literal["higher", "lower", "none"]


@dataclass(frozen=True)
class Metric:
    """One measured number of one system on one run of frames."""

    name: str
    """A key of :data:`METRICS`."""
    value: float
    """nan where it is missing; infinite for the PSNR of equal images."""
    unit: str
    better: Better
    model: str
    """Evaluation model that measured; empty: pixels alone."""
    frames: int
    """Frames that entered."""
    missing: int
    """Frames that did not, mostly for want of a face."""
    per_frame: Float[np.ndarray, " N"] | None
    """For confidence intervals and paired tests, nan where missing; the value is their mean, or the root of it."""
    reason: str = ""
    """One sentence where the value is nan."""


@dataclass(frozen=True)
class MetricSpec:
    """Properties of a metric, and the function that measures it.

    A registered metric (see the package's docstring) appears in ``report.json``, in the table of all metrics, in
    comparisons and on the pages.
    """

    title: str
    """Column head."""
    unit: str = ""
    better: Better = "none"
    digits: int = 3
    """Decimals worth printing."""
    measure: Callable[[str, Observation], Metric] | None = None
    """Compute the metric of a run from its name and observation; None: the mean of ``of_frame``."""
    of_frame: Callable[[RenderedFrame, EvaluationModels], Float[Tensor, ""]] | None = None
    """Value of one frame that has a recorded one to compare with, taken while the frame is there."""
    needs: tuple[Need, ...] = ()
    """Required inputs; the first missing one is the reason given."""
    undefined: str = "no frame could be measured"
    """Reason where every frame is nan."""
    aggregate: Literal["mean", "root_mean"] = "mean"
    """Aggregation of values per frame; "root_mean": they are squares, and this is the root of their mean."""
    consecutive: bool = False
    """Only frames that follow each other in time have it."""
    reference: bool = False
    """Measured on the recording: what a perfect avatar would get. Left out where there is no recording."""
    of_recording: bool = False
    """Also measured of the recording, as a system of its own: not of metrics that compare frames with the recorded
    ones, where it would be perfect by construction."""
    source: str = "pixels"
    """Source of the value where no evaluation model measures."""
    reproducible: bool = True
    """False: measured by a clock, never twice the same."""
    columns: Mapping[Scenario, int] = field(default_factory=dict)
    """Column, from 1, of the paper's table of a scenario (1 to 3); metrics of one column share a cell ("a/b")."""
    ablation: Mapping[Scenario, int] = field(default_factory=dict)
    """Column of a scenario's value in the ablation (table 4 and more)."""
    baseline: bool = False
    """Also measured by TalkingGaussian's script, on re-encoded video."""
    over_time: bool = False
    """Plotted per frame in comparisons."""
    target: float | None = None
    """Best value where neither direction is better."""

    @property
    def head(self) -> str:
        """Column head with unit and an arrow towards the better side, or the best value."""
        best = "" if self.target is None else f" → {self.target:g}"
        arrow = {"higher": " ↑", "lower": " ↓", "none": best}[self.better]
        return f"{self.title}{f' [{self.unit}]' if self.unit else ''}{arrow}"

    @property
    def ranks(self) -> bool:
        """True if some values are better than others."""
        return self.better != "none" or self.target is not None

    def summary(self, values: Float[np.ndarray, " n"]) -> float:
        """One number of values per frame without nan."""
        mean = float(values.mean())
        return math.sqrt(mean) if self.aggregate == "root_mean" else mean

    def text(self, value: float, *, sign: bool = False, none: str = "-") -> str:
        """A value rounded to :attr:`digits`; ``none`` where it is nan."""
        if math.isnan(value):
            return none
        if math.isinf(value):
            return "inf" if value > 0 else "-inf"
        return f"{value:{'+' if sign else ''}z.{self.digits}f}"


METRICS: dict[str, MetricSpec] = {}
"""Every metric by name, in the order of the tables. docs/evaluation.md defines each.

Those that end in "_truth" are measured on the subject's own recording in the same way; "_rest" is what a face that
never moves would get.
"""


def register(name: str, spec: MetricSpec) -> None:
    """Add a metric.

    Raises:
        ValueError: the name is taken, or nothing says how to measure it.
    """
    if name in METRICS:
        raise ValueError(f"there is a metric '{name}' already")
    if spec.measure is None and spec.of_frame is None:
        raise ValueError(f"the metric '{name}' has neither `measure` nor `of_frame`")
    METRICS[name] = spec


def per_frame(
    name: str,
    values: Float[np.ndarray, " N"],
    model: str = "",
    wanted: Bool[np.ndarray, " N"] | None = None,
) -> Metric:
    """Metric of N frames.

    Args:
        name: a key of :data:`METRICS`.
        values: one a frame; nan: not measured.
        model: evaluation model that measured.
        wanted: frames that the metric is defined on (second differences have none at the ends); None: all.
    """
    spec, there = METRICS[name], ~np.isnan(values)
    lost = int((~there if wanted is None else wanted & ~there).sum())
    value = spec.summary(values[there]) if there.any() else math.nan
    reason = spec.undefined if math.isnan(value) else ""
    return Metric(name, value, spec.unit, spec.better, model, int(there.sum()), lost, values, reason)


def single(name: str, value: float, model: str = "", frames: int = 0, lost: int = 0, reason: str = "") -> Metric:
    """Metric of the run as a whole; ``lost``: frames that did not enter."""
    spec = METRICS[name]
    return Metric(name, value, spec.unit, spec.better, model, frames, lost, None, reason)


def missing(name: str, reason: str, lost: int = 0) -> Metric:
    """Metric that could not be measured: nan, with its reason.

    Args:
        reason: one sentence.
        lost: frames that it would have been taken from.
    """
    return single(name, math.nan, lost=lost, reason=reason)
