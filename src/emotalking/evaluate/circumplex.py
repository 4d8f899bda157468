"""Commanded against measured valence and arousal over the test points, with confidence intervals and controls.

What an estimator reads on a person's neutral face is that person's looks and the estimator's own bias. The readings
under the neutral command, on the same sound, are taken away (debiased). Control: the same readings under labels in
random order.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from matplotlib.patches import Circle

from emotalking.evaluate.intervals import DRAWS, Interval, block_frames, block_sums
from emotalking.evaluate.results import AVATAR, NEUTRAL, Result, Run, array
from emotalking.report import Plot
from emotalking.report.tables import Table

AxisName = Literal["valence", "arousal"]
AXES: tuple[AxisName, AxisName] = ("valence", "arousal")
_COMMANDED = "#1d2330"
_MEASURED = "#e0672f"
_NEUTRAL = "#2f6fde"


@dataclass(frozen=True)
class Reading:
    """What an estimator read of one commanded point."""

    commanded: tuple[float, float]
    label: str
    values: Float[np.ndarray, "N 2"]
    """Per frame in order of time, frames without a face left out."""
    neutral: Float[np.ndarray, "M 2"] | None
    """Of the neutral command on the same sound; None: not rendered (reports of before)."""

    @property
    def change(self) -> Float[np.ndarray, " 2"]:
        """Mean reading, without the person's own neutral one where that is known."""
        base = 0.0 if self.neutral is None else self.neutral.mean(0)
        return self.values.mean(0) - base


@dataclass(frozen=True)
class Agreement:
    """How one axis is followed over the points."""

    r: float
    """Correlation of mean readings with commands; nan where either does not vary."""
    interval: Interval | None
    """Of the correlation, 95 %, over blocks of neighbouring frames; None for less than a block a point."""
    signs: int
    """Points whose reading has the sign of its command..."""
    signed: int
    """...of those with a sign."""
    slope: float
    """Measured per commanded unit."""
    shuffled: float
    """95th percentile of the correlation under commands in random order."""


def estimator(result: Result) -> str:
    """Name of the model that read the emotions; empty without one."""
    metrics = [run.metrics.get("v_rmse") for run in result.of(AVATAR)]
    return next((metric.model for metric in metrics if metric is not None and metric.model), "")


def readings(result: Result) -> list[Reading]:
    """One a commanded point with a face in at least one frame."""
    plain = {run.sound: _seen(run) for run in result.of(NEUTRAL)}
    out = []
    for run in result.of(AVATAR):
        values = _seen(run)
        if run.commanded is None or len(values) == 0:
            continue
        neutral = plain.get(run.sound)
        out.append(Reading(run.commanded, run.label, values, None if neutral is None or not len(neutral) else neutral))
    return out


def _seen(run: Run) -> Float[np.ndarray, "N 2"]:
    if not run.observed.get("va"):
        return np.zeros((0, 2))
    measured = array(run.observed["va"])
    return measured[~np.isnan(measured).any(-1)]


def agreement(points: Sequence[Reading], axis: int, block: int, *, debiased: bool = True) -> Agreement:
    """Agreement of an axis (0: valence).

    Args:
        points: at least three.
        block: frames that are resampled together.
        debiased: take the neutral readings away.
    """
    said = np.array([point.commanded[axis] for point in points])

    def means(of: Callable[[Float[np.ndarray, " N"]], Float[np.ndarray, " draws"]]) -> Float[np.ndarray, "draws P"]:
        read = [of(point.values[:, axis]) for point in points]
        if debiased:
            bases = {id(p.neutral): of(p.neutral[:, axis]) for p in points if p.neutral is not None}
            read = [value - bases.get(id(point.neutral), 0.0) for value, point in zip(read, points, strict=True)]
        return np.stack(read, -1)

    rng = np.random.default_rng(0)
    seen = means(lambda values: values.mean(keepdims=True))
    interval = None
    if min(len(point.values) for point in points) >= block:
        drawn = _correlations(means(lambda values: _resampled(values, block, rng)), said)
        low, high = np.nanpercentile(drawn, [2.5, 97.5])
        interval = Interval(float(low), float(high))
    signed = said != 0
    return Agreement(
        r=float(_correlations(seen, said)[0]),
        interval=interval,
        signs=int((np.sign(seen[0]) == np.sign(said))[signed].sum()),
        signed=int(signed.sum()),
        slope=float(np.polyfit(said, seen[0], 1)[0]),
        shuffled=float(np.nanpercentile(_correlations(rng.permuted(np.tile(said, (DRAWS, 1)), axis=1), seen[0]), 95)),
    )


def _resampled(values: Float[np.ndarray, " N"], block: int, rng: np.random.Generator) -> Float[np.ndarray, " draws"]:
    """Means of as many frames in blocks from random starts, going round at the end."""
    starts = rng.integers(len(values), size=(DRAWS, -(-len(values) // block)))
    return block_sums(values, block)[starts].sum(1) / (starts.shape[1] * block)


def _correlations(rows: Float[np.ndarray, "draws P"], other: Float[np.ndarray, " P"]) -> Float[np.ndarray, " draws"]:
    """Correlation of each row with ``other``; nan where either does not vary."""
    a, b = rows - rows.mean(1, keepdims=True), other - other.mean()
    sizes = np.sqrt((a**2).mean(1)), np.sqrt((b**2).mean())
    varies = (sizes[0] > 1e-9) & (sizes[1] > 1e-9)
    return np.where(varies, (a * b).mean(1) / np.where(varies, sizes[0] * sizes[1], 1.0), np.nan)


def agreement_table(result: Result, fps: float | int) -> Table | None:
    """Both axes, as read and debiased; None for fewer than three points."""
    points = readings(result)
    if len(points) < 3:
        return None
    rows = []
    known = all(point.neutral is not None for point in points)
    for axis, name in enumerate(AXES):
        for debiased in (False, True) if known else (False,):
            found = agreement(points, axis, block_frames(fps), debiased=debiased)
            span = "-" if found.interval is None else f"{found.interval.low:.2f} to {found.interval.high:.2f}"
            rows.append(
                (
                    f"{name}{', less neutral' if debiased else ''}",
                    f"{found.r:.2f}",
                    span,
                    f"{found.shuffled:.2f}",
                    f"{found.signs} of {found.signed}",
                    f"{found.slope:.2f}",
                )
            )
    model = estimator(result) or "emotion model"
    return Table((f"Read by: {model}", "r", "95 %", "r, shuffled labels (95th pct.)", "signs", "slope"), rows)


def circumplex_plot(result: Result) -> Plot | None:
    """Commanded against measured valence and arousal, one arrow a point, one dot a frame."""
    points = readings(result)
    if not points:
        return None
    plot = Plot(width=5.6, height=5.6)
    axes = plot.axes[0]
    for radius in (0.5, 0.8, 1.0):
        axes.add_patch(Circle((0, 0), radius, fill=False, color="#d5dae3", linewidth=0.8))
    labels = ("measured per frame", "measured, mean", "commanded")
    for number, point in enumerate(points):
        mean, (valence, arousal) = point.values.mean(0), point.commanded
        names = labels if number == 0 else (None, None, None)
        axes.plot(*point.values.T, ".", color=_MEASURED, alpha=0.12, markersize=3, label=names[0])
        axes.plot([valence, mean[0]], [arousal, mean[1]], color="#b6bdca", linewidth=0.9)
        axes.plot(*mean, "o", color=_MEASURED, markersize=6, label=names[1])
        axes.plot(valence, arousal, "x", color=_COMMANDED, markersize=7, label=names[2])
        axes.annotate(point.label, point.commanded, (4, 4), textcoords="offset points", fontsize=7, color="#5d6678")
    plain = {id(point.neutral): point.neutral for point in points if point.neutral is not None}
    for number, values in enumerate(plain.values()):
        name = "measured, neutral command" if number == 0 else None
        axes.plot(*values.mean(0), "s", color=_NEUTRAL, markersize=7, label=name)
    axes.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), xlabel="valence", ylabel="arousal", aspect="equal")
    legend = axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2)
    for handle in legend.legend_handles:
        handle.set_alpha(1)
    return plot


def axes_plot(result: Result, fps: float | int) -> Plot | None:
    """Measured over commanded, an axis each: debiased means of the points with 95 % intervals."""
    points = readings(result)
    if len(points) < 3:
        return None
    plot = Plot(columns=2, width=9.0, height=3.6)
    rng, block = np.random.default_rng(0), block_frames(fps)
    for axis, (name, axes) in enumerate(zip(AXES, plot.axes, strict=True)):
        said = np.array([point.commanded[axis] for point in points])
        seen = np.array([point.change[axis] for point in points])
        spread = np.zeros((2, len(points)))
        for number, point in enumerate(points):
            if len(point.values) >= block:
                low, high = np.percentile(_resampled(point.values[:, axis], block, rng), [2.5, 97.5])
                mean = point.values[:, axis].mean()
                spread[:, number] = max(mean - low, 0), max(high - mean, 0)
        axes.plot([-1, 1], [-1, 1], color="#c9ced8", linewidth=0.8)
        axes.axhline(0, color="#c9ced8", linewidth=0.8)
        axes.errorbar(said, seen, spread, fmt="o", color=_MEASURED, markersize=5, linewidth=1, capsize=2)
        for point, x, y in zip(points, said, seen, strict=True):
            axes.annotate(point.label, (x, y), (4, 4), textcoords="offset points", fontsize=7, color="#5d6678")
        axes.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), xlabel=f"commanded {name}", ylabel=f"measured {name}")
    return plot
