"""Curves of a run, from the rows of its record alone."""

import math
from collections.abc import Iterator
from itertools import cycle

from emotalking.report import Plot
from emotalking.train.callbacks.log import Row, of_kind

_COLOURS = (
    "#2f6fde",
    "#e0672f",
    "#1d7f4e",
    "#8e44ad",
    "#b3261e",
    "#a86400",
    "#0f8b8d",
    "#5d6678",
    "#c2185b",
    "#7a9a01",
)
_FIGURES = {"psnr": "whole frame", "psnr_head": "head", "psnr_lips": "lips", "psnr_mouth": "inside of the mouth"}


def held_out(rows: list[Row]) -> Iterator[tuple[Plot, str]]:
    """Quality of the fixed frames over the whole run, and what sound and emotion bring to them."""
    starts, end = _axis(rows)
    looks = of_kind(rows, "frames")
    for names, unit, caption in (
        (_FIGURES, "PSNR [dB]", "PSNR of the fixed frames"),
        (
            {
                "sound_gain": "own sound against another frame's",
                "eye_gain": "own action units against open eyes",
                "emotion_gain": "emotion against neutral",
            },
            "gain [dB]",
            "how much worse lips look with other sound, closed eyes with the units of open ones, and emotional faces "
            "without emotion; 0: nothing was learned",
        ),
    ):
        plot = Plot()
        axes = plot.axes[0]
        for (name, label), colour in zip(names.items(), _COLOURS, strict=False):
            points = [(starts[row["stage"]] + row["iteration"], row[name]) for row in looks if name in row]
            if points:
                axes.plot(*zip(*points, strict=True), ".-", color=colour, label=label)
        if axes.lines:
            _stages(plot, starts, end)
            axes.set(ylabel=unit)
            plot.figure.legend(ncols=4, frameon=False, loc="outside lower left")
            yield plot, caption


def curves(rows: list[Row]) -> Iterator[tuple[Plot, str]]:
    """Losses of each stage, then Gaussians, speed and memory over the run, then the rates of each stage."""
    starts, end = _axis(rows)
    for stage in starts:
        steps = of_kind(rows, "step", stage)
        if len(steps) > 1:
            yield _losses(steps), f"{stage}: mean weighted loss terms"
    steps = sorted(of_kind(rows, "step"), key=lambda row: starts[row["stage"]] + row["iteration"])
    if len(steps) > 1:
        at = [starts[row["stage"]] + row["iteration"] for row in steps]
        plot = Plot(rows=2, height=3.6, sharex=True)
        for branch, colour in zip(("face", "mouth"), _COLOURS, strict=False):
            counts = [row["gaussians"].get(branch, math.nan) for row in steps]
            plot.axes[0].plot(at, counts, color=colour, label=branch)
        plot.axes[0].set(ylabel="Gaussians", ylim=(0, None))
        plot.axes[0].legend(ncols=2, frameon=False)
        plot.axes[1].plot(at, [row["steps_per_second"] for row in steps], color=_COLOURS[2])
        plot.axes[1].set(ylabel="steps / s", ylim=(0, None))
        _stages(plot, starts, end)
        yield plot, "Gaussians of each branch, and steps a second (without the looks at the fixed frames)"
    for stage in starts:
        steps = of_kind(rows, "step", stage)
        if len(steps) > 1:
            yield _rates(steps), f"{stage}: learning rates"


def _losses(steps: list[Row]) -> Plot:
    plot = Plot()
    names = list(dict.fromkeys(name for row in steps for name in row["terms"]))
    plot.axes[0].plot([row["iteration"] for row in steps], [row["loss"] for row in steps], color="#1d2330", label="sum")
    for name, colour in zip(names, cycle(_COLOURS)):
        points = [(row["iteration"], row["terms"][name]) for row in steps if row["terms"].get(name, 0.0) > 0.0]
        if points:
            plot.axes[0].plot(*zip(*points, strict=True), color=colour, label=name, linewidth=0.9)
    plot.axes[0].set(yscale="log", xlabel="iteration")
    plot.axes[0].legend(ncols=6, frameon=False)
    return plot


def _rates(steps: list[Row]) -> Plot:
    plot = Plot(height=2.0)
    for name, colour in zip(steps[0]["rates"], cycle(_COLOURS)):
        points = [(row["iteration"], row["rates"][name]) for row in steps if row["rates"].get(name, 0.0) > 0.0]
        if points:
            plot.axes[0].plot(*zip(*points, strict=True), color=colour, label=name, linewidth=1.0)
    plot.axes[0].set(yscale="log", xlabel="iteration")
    plot.figure.legend(ncols=2, loc="outside right center", fontsize=7, frameon=False)
    return plot


def _axis(rows: list[Row]) -> tuple[dict[str, int], int]:
    """Where each stage begins on one axis of iterations, and its end."""
    starts: dict[str, int] = {}
    end = 0
    for row in of_kind(rows, "stage"):
        starts[row["stage"]] = end
        end += row["iterations"]
    return starts, end


def _stages(plot: Plot, starts: dict[str, int], end: int) -> None:
    """Mark where stages begin."""
    for axes in plot.axes:
        for start in starts.values():
            axes.axvline(start, color="#c9ced8", linewidth=0.8)
        axes.set(xlim=(0, max(end, 1)))
    top = plot.axes[0].secondary_xaxis("top")
    top.set_xticks(list(starts.values()), list(starts))
    top.tick_params(length=0, labelsize=8)
    top.spines["top"].set_visible(False)
    for label in top.get_xticklabels():
        label.set_ha("left")
    plot.axes[-1].set(xlabel="iteration of the run")
