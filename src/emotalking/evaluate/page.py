"""Report of an evaluation: tables, plots, images, and what all of it was made with."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.ticker import LogLocator, NullFormatter

from emotalking.data.frame import from_runs
from emotalking.emotion.circumplex import TEST_POINTS
from emotalking.evaluate.circumplex import agreement_table, axes_plot, circumplex_plot
from emotalking.evaluate.results import AVATAR, NEUTRAL, RECORDED, Report, Result, Run, array
from emotalking.evaluate.scenarios import SCENARIO_SPECS
from emotalking.evaluate.tables import metric_table, paper_tables, remarks, run_table, split_table
from emotalking.report import Page, Plot

_QUALITY = 85
_COLOURS = {AVATAR: "#2f6fde", RECORDED: "#8a93a5"}
_STYLES = ("-", "--", ":", "-.")
"""Line styles, so that lines differ without their colours."""
_MOST_LINES = 4
_MEASURED = "#e0672f"


def make_page(report: Report, folder: Path) -> Page:
    """Report of an evaluation as a page, Markdown and LaTeX.

    Args:
        report: what was measured.
        folder: where its images lie.

    Raises:
        InputError: an image is missing or cannot be read.
    """
    page = Page("Evaluation", _subtitle(report))
    page.text(f"Command: {report.command}")
    for result in report.results:
        for note in result.notes:
            page.verdict(note, "warn")
    page.heading("Tables")
    for titled in paper_tables(report):
        page.subheading(titled.title)
        page.table(titled.table, caption=f"{titled.title}. {titled.note}".strip())
        if titled.note:
            page.text(titled.note)
    for result in report.results:
        _section(page, result, folder, float(Fraction(report.provenance["data"].get("fps", 25))))
    page.heading("Splits")
    page.text("No frame is in both; the avatar's own poses are those of the training frames, bit by bit.")
    page.table(split_table(report.provenance["data"]))
    page.heading("Made with")
    page.facts(_facts(report))
    return page


def _section(page: Page, result: Result, folder: Path, fps: float) -> None:
    page.heading(SCENARIO_SPECS[result.scenario].heading)
    for draw, caption in _PLOTS.items():
        plot = draw(result)
        if plot is not None:
            page.plot(plot, caption)
    followed, axes = agreement_table(result, fps), axes_plot(result, fps)
    if followed is not None and axes is not None:
        page.plot(axes, "measured over commanded, less the neutral reading; bars: 95 %, by blocks")
        page.table(followed, caption="Agreement of measured and commanded emotion over the points")
    for image in result.images:
        page.image(folder / image.file, image.caption, _QUALITY)
    if len(result.of(AVATAR)) > 1:
        page.table(run_table(result))
    page.text("Every metric, its evaluation model, and the number of frames:")
    page.table(metric_table(result))
    for sentence in remarks(result):
        page.text(sentence)


def _subtitle(report: Report) -> str:
    code = report.provenance["code"]
    avatar, subject = Path(report.options["avatar"]).name, Path(report.options["subject"]).name
    return f"{avatar} on {subject}; emotalking {code['version']}, commit {(code['commit'] or 'unknown')[:12]}"


def _facts(report: Report) -> dict[str, str]:
    known = report.provenance
    code = known["code"]
    machine = known["machine"]
    clip = known["data"]["clip"] or {}
    changed = " with uncommitted changes" if code["uncommitted_changes"] else ""
    return {
        "code": f"emotalking {code['version']}, commit {code['commit'] or 'unknown'}{changed}",
        "avatar": f"{known['avatar']['file']}, SHA-256 {known['avatar']['sha256']}",
        "clip": f"{clip.get('name', 'not recorded')}, SHA-256 {clip.get('sha256', 'not recorded')}",
        "trained by": str(known["training"].get("command") or "not recorded"),
        **{f"sound {sound['name']}": f"SHA-256 {sound['sha256'][:16]}" for sound in known["sounds"]},
        **{f"evaluation model: {what}": str(model) for what, model in known["evaluation_models"].items()},
        "machine": f"{machine['processor']}, {machine['cores']} cores, GPU: {machine['gpu'] or 'none'}",
        "worked on": known["device"],
        "packages": ", ".join(f"{name} {version}" for name, version in known["packages"].items()),
        **{f"time of {result.scenario}": f"{result.seconds:.0f} s" for result in report.results},
    }


def psnr_plot(result: Result) -> Plot | None:
    """PSNR of every frame; the worst and the best are marked."""
    runs = [run for run in result.of(AVATAR) if result.scenario == "self" and run.metrics["psnr"].per_frame is not None]
    if not runs:
        return None
    plot = Plot()
    axes = plot.axes[0]
    numbers = from_runs(runs[0].subject_frames)
    for name, colour in (("psnr", _COLOURS[AVATAR]), ("psnr_head", _MEASURED)):
        values = runs[0].metrics[name].per_frame
        if values is None or np.isnan(values).all():
            continue
        axes.plot(numbers, values, color=colour, label={"psnr": "whole frame", "psnr_head": "head"}[name])
        for at in (int(np.nanargmin(values)), int(np.nanargmax(values))):
            axes.plot(numbers[at], values[at], "o", color=colour, markersize=4)
    axes.set(xlabel="frame of the clip", ylabel="PSNR [dB]")
    axes.legend(ncols=2)
    return plot


def sync_plot(result: Result) -> Plot | None:
    """Mean distance of sound and lips over the offset between them: a deep dip at 0 is good sync."""
    runs = [run for run in result.runs if run.system != NEUTRAL and run.observed["sync"]]
    if not runs:
        return None
    plot = Plot(height=2.8)
    axes = plot.axes[0]
    curves = [array(run.observed["sync"]["curve"]) for run in runs]
    offsets = np.arange(len(curves[0])) - len(curves[0]) // 2
    axes.axvline(0, color="#c9ced8", linewidth=0.8)
    _lines(axes, result, runs, offsets, curves)
    axes.set(xlabel="sound moved by [frames]", ylabel="distance", title=f"expert: {runs[0].observed['sync']['expert']}")
    return plot


def jitter_plot(result: Result) -> Plot | None:
    """Head motion in the image by frequency; people move below about 3 Hz, what lies above is shaking."""
    runs = [run for run in result.runs if run.system != NEUTRAL and run.observed["spectrum"]]
    if not runs:
        return None
    plot = Plot()
    axes = plot.axes[0]
    spectra = [(array(run.observed["spectrum"]["hz"])[1:], array(run.observed["spectrum"]["px"])[1:]) for run in runs]
    # Runs of other lengths have other frequencies.
    hz = min((known for known, _ in spectra), key=len)
    _lines(axes, result, runs, hz, [np.maximum(np.interp(hz, known, px), 1e-4) for known, px in spectra])
    axes.set(xlabel="frequency [Hz]", ylabel="amplitude [px]", yscale="log")
    # A decade or less has one tick by default, and its minor ones as powers of ten.
    axes.yaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    return plot


def _lines(
    axes: Any, result: Result, runs: Sequence[Run], x: Float[np.ndarray, " n"], series: Sequence[np.ndarray]
) -> None:
    """A line each run; where they are many, their median in a band from the smallest to the largest."""
    if len(runs) > _MOST_LINES:
        axes.fill_between(x, np.min(series, 0), np.max(series, 0), color=_COLOURS[AVATAR], alpha=0.2, linewidth=0)
        label = f"median of {len(runs)} runs (band: all of them)"
        axes.plot(x, np.median(series, 0), color=_COLOURS[AVATAR], label=label)
    else:
        for number, (run, values) in enumerate(zip(runs, series, strict=True)):
            own = result.scenario == "self"
            style = _STYLES[number % len(_STYLES)]
            colour, label = (_COLOURS[run.system], run.system) if own else (f"C{number}", run.title)
            axes.plot(x, values, color=colour, linestyle=style, label=label)
    axes.legend()


def confusion(result: Result) -> tuple[tuple[str, ...], tuple[str, ...], Float[np.ndarray, "L C"]] | None:
    """Expected labels, predicted classes, and the share of each label's frames predicted as each class.

    Returns:
        None without a model of expressions. Shares of a row sum to 1 (frames without a face are left out).
    """
    runs = [run for run in result.of(AVATAR) if run.label and run.observed["classes"]]
    if not runs:
        return None
    classes = tuple(runs[0].observed["classes"])
    labels = tuple(dict.fromkeys(point.label for point in TEST_POINTS))
    counts = np.zeros((len(labels), len(classes)))
    for run in runs:
        found = [index for index in run.observed["expressions"] if index >= 0]
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
    axes.set(xlabel="read by the model", ylabel="commanded")
    return plot


_PLOTS = {
    psnr_plot: "PSNR of every frame; dots: the worst and the best",
    circumplex_plot: "commanded against measured valence and arousal; grey lines join what belongs together",
    confusion_plot: "share of frames [%] of each commanded emotion that the model read as each class",
    sync_plot: "sync expert: mean distance between sound and lips over the offset between them",
    jitter_plot: "motion of the head in the image by frequency (rigid landmarks)",
}
"""Plots of a scenario, with captions."""
