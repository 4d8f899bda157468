"""Plots of an evaluation, from its report alone."""

import numpy as np
from jaxtyping import Float
from matplotlib.patches import Circle

from emotalking.emotion.circumplex import TEST_POINTS
from emotalking.evaluate.record import AVATAR, RECORDED, Result, array
from emotalking.report import Plot

_COLOURS = {AVATAR: "#2f6fde", RECORDED: "#8a93a5"}
_COMMANDED, _MEASURED = "#1d2330", "#e0672f"


def psnr_plot(result: Result) -> Plot | None:
    """PSNR of every frame; the worst and the best are marked."""
    runs = [run for run in result.of(AVATAR) if run.figures["psnr"].per_frame is not None]
    if not runs:
        return None
    plot = Plot()
    axes = plot.axes[0]
    for name, colour in (("psnr", _COLOURS[AVATAR]), ("psnr_head", _MEASURED)):
        values = runs[0].figures[name].per_frame
        if values is None or np.isnan(values).all():
            continue
        axes.plot(values, color=colour, label={"psnr": "whole frame", "psnr_head": "head"}[name])
        for at in (int(np.nanargmin(values)), int(np.nanargmax(values))):
            axes.plot(at, values[at], "o", color=colour, markersize=4)
    axes.set(xlabel=f"frame (of {runs[0].subject_frames})", ylabel="PSNR [dB]")
    axes.legend(ncols=2)
    return plot


def sync_plot(result: Result) -> Plot | None:
    """Mean distance of sound and lips over the offset between them: a deep dip at 0 is good sync."""
    runs = [run for run in result.runs if run.seen["sync"]]
    if not runs:
        return None
    plot = Plot(height=2.8)
    axes = plot.axes[0]
    for number, run in enumerate(runs):
        curve = array(run.seen["sync"]["curve"])
        offsets = np.arange(len(curve)) - len(curve) // 2
        own = result.scenario == "self"
        colour = _COLOURS[run.system] if own else f"C{number}"
        label = run.system if own else run.title
        axes.plot(offsets, curve, color=colour, alpha=0.8, label=label)
    axes.axvline(0, color="#c9ced8", linewidth=0.8)
    axes.set(xlabel="sound moved by [frames]", ylabel="distance", title=f"expert: {runs[0].seen['sync']['expert']}")
    if len(runs) <= 4:
        axes.legend()
    return plot


def jitter_plot(result: Result) -> Plot | None:
    """Head motion in the picture by frequency; people move below about 3 Hz, what lies above is shaking."""
    runs = [run for run in result.runs if run.seen["spectrum"]]
    if not runs:
        return None
    plot = Plot()
    axes = plot.axes[0]
    for run in runs if result.scenario == "self" else runs[:2]:
        spectrum = run.seen["spectrum"]
        label = run.system if result.scenario == "self" else run.title
        colour = _COLOURS[run.system] if result.scenario == "self" else None
        hz, px = array(spectrum["hz"])[1:], array(spectrum["px"])[1:]
        axes.plot(hz, np.maximum(px, 1e-4), label=label, color=colour)
    axes.set(xlabel="frequency [Hz]", ylabel="amplitude [px]", yscale="log")
    axes.legend()
    return plot


def circumplex_plot(result: Result) -> Plot | None:
    """Commanded valence and arousal against what the judge measured, one arrow a point, one dot a frame."""
    runs = [run for run in result.of(AVATAR) if run.commanded is not None and run.seen["va"]]
    if not runs:
        return None
    plot = Plot(width=5.6, height=5.6)
    axes = plot.axes[0]
    for radius in (0.5, 0.8, 1.0):
        axes.add_patch(Circle((0, 0), radius, fill=False, color="#d5dae3", linewidth=0.8))
    labels = ("measured per frame", "measured, mean", "commanded")
    for number, run in enumerate(runs):
        measured = array(run.seen["va"])
        there = measured[~np.isnan(measured).any(-1)]
        if len(there) == 0 or run.commanded is None:
            continue
        mean, (valence, arousal) = there.mean(0), run.commanded
        names = labels if number == 0 else (None, None, None)
        axes.plot(*there.T, ".", color=_MEASURED, alpha=0.12, markersize=3, label=names[0])
        axes.plot([valence, mean[0]], [arousal, mean[1]], color="#b6bdca", linewidth=0.9)
        axes.plot(*mean, "o", color=_MEASURED, markersize=6, label=names[1])
        axes.plot(valence, arousal, "x", color=_COMMANDED, markersize=7, label=names[2])
        axes.annotate(run.label, (valence, arousal), (4, 4), textcoords="offset points", fontsize=7, color="#5d6678")
    axes.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), xlabel="valence", ylabel="arousal", aspect="equal")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=3)
    return plot


def confusion(result: Result) -> tuple[tuple[str, ...], tuple[str, ...], Float[np.ndarray, "L C"]] | None:
    """Labels that the points should show, classes that were read, and the share of each label's frames read as each.

    Returns:
        None without a judge of expressions. Shares of a row sum to 1 (frames without a face are left out).
    """
    runs = [run for run in result.of(AVATAR) if run.label and run.seen["classes"]]
    if not runs:
        return None
    classes = tuple(runs[0].seen["classes"])
    labels = tuple(dict.fromkeys(point.label for point in TEST_POINTS))
    counts = np.zeros((len(labels), len(classes)))
    for run in runs:
        found = [index for index in run.seen["expressions"] if index >= 0]
        counts[labels.index(run.label)] += np.bincount(found, minlength=len(classes))
    return labels, classes, counts / np.maximum(counts.sum(-1, keepdims=True), 1)


def confusion_plot(result: Result) -> Plot | None:
    """The confusion matrix, in percent of each commanded label's frames."""
    found = confusion(result)
    if found is None:
        return None
    labels, classes, shares = found
    plot = Plot(width=6.4, height=3.6)
    axes = plot.axes[0]
    axes.grid(False)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(shares.shape):
        colour = "white" if shares[row, column] > 0.6 else "#1d2330"
        axes.text(column, row, f"{100 * shares[row, column]:.0f}", ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(len(classes)), classes, rotation=30, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="read by the judge", ylabel="commanded")
    return plot
