"""Record and page of a run: begun before the first step, completed whether the run succeeds or fails."""

import logging
import math
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import torch

import emotalking
from emotalking.data import Subject
from emotalking.emotion.generator import EmotionGenerator
from emotalking.errors import InputError
from emotalking.io.reading import reading
from emotalking.io.settings import to_dict, upgrade
from emotalking.report import Page, Plot
from emotalking.report.images import ERROR_GAIN
from emotalking.report.plots import COLOURS
from emotalking.train.callbacks.log import (
    LOG,
    Callback,
    EventFiles,
    Row,
    RunLog,
    StepLog,
    of_kind,
    preview_image,
    stage_starts,
)
from emotalking.train.callbacks.preview import IMAGES, Preview, pick_frames
from emotalking.train.callbacks.rows import read_log
from emotalking.train.callbacks.warnings import EarlyWarnings, limits
from emotalking.train.checkpoint import Checkpoint
from emotalking.train.config import TrainConfig
from emotalking.train.context import Context
from emotalking.train.data import TrainingData
from emotalking.train.presets import preset

_logger = logging.getLogger(__name__)


@contextmanager
def recorded(
    folder: Path,
    context: Context,
    subject: Subject,
    metadata: dict[str, Any],
    *,
    maker_of: Callable[[TrainingData], EmotionGenerator],
    checkpoint: Checkpoint | None,
    tensorboard: bool = False,
) -> Iterator[list[Callback]]:
    """The callbacks that keep the record of a run; its last row and the page are written when the block ends.

    Args:
        folder: run folder.
        metadata: the avatar's: its `run`, `licences` and `command`.
        maker_of: the maker of emotional targets for some frames.
        checkpoint: what the run goes on from; None begins a new record.
        tensorboard: also write TensorBoard events.

    Raises:
        InputError: the folder cannot be written to, or TensorBoard's writer is missing.
    """
    config, device = context.config, context.data.device
    resume = None if checkpoint is None else (checkpoint.payload["stage_name"], checkpoint.payload["iteration"])
    if resume is None:
        for old in (folder / IMAGES).glob("*.jpg"):
            old.unlink()
    log = RunLog(folder, resume, limits(config))
    if tensorboard:
        log.listeners.append(EventFiles(folder, log.rows))
    picked = pick_frames(subject)
    data = TrainingData.load(subject, picked.all, config.model.audio.features, device, normals=config.normals)
    emotional = data.shape is not None and config.model.emotion.branch != "none"
    preview = Preview(log, data, picked, folder, maker_of(data) if emotional else None)
    callbacks = [StepLog(log, weights_of(config)), preview, EarlyWarnings(log)]
    log.add(
        "run",
        version=1,
        time=_now(),
        subject=subject.files.root.name,
        resumed=resume,
        frames={
            "training": len(subject.train_indices),
            "held_out": len(subject.val_indices),
            "fixed": picked.fixed.tolist(),
        },
        machine=machine(device),
        settings=metadata["run"],
        licences=metadata["licences"],
        command=metadata["command"],
    )
    outcome, why = "failed", "the process was told to exit"
    try:
        yield callbacks
        outcome, why = "finished", ""
    except KeyboardInterrupt:
        outcome, why = "interrupted", "Ctrl-C"
        raise
    except Exception as error:
        outcome, why = "failed", str(error)
        raise
    finally:
        try:
            for callback in callbacks:
                callback.on_run_end(outcome)
            log.add("end", outcome=outcome, why=why, time=_now())
            write_page(folder)
        except (InputError, OSError) as error:  # It must not hide why the run ended.
            _logger.warning("the run's page was not written: %s", error)


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def weights_of(config: TrainConfig) -> dict[str, dict[str, float]]:
    """Weights of each stage's terms: the fields of its losses config."""
    stages = ("mouth", "face", "emotion", "finetune")
    return {stage: {k: float(v) for k, v in vars(getattr(config, stage).losses).items()} for stage in stages}


def machine(device: torch.device) -> dict[str, Any]:
    """Device, its name, threads and versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {"device": str(device), "name": name, "threads": torch.get_num_threads(), "versions": versions()}


def versions() -> dict[str, str]:
    """Versions of what a run depends on."""
    return {"emotalking": emotalking.__version__, "torch": torch.__version__, "python": platform.python_version()}


PAGE = "report.html"
"""Name of the page in the run folder."""
STRIPS = {
    "mouth": "lips: recorded, rendered inside the recorded face, error",
    "face": "recorded, rendered, error, (normals given and rendered,) lips recorded and rendered",
    "emotion": "recorded, rendered, error, (normals,) emotional target and rendered, lips recorded and rendered",
    "finetune": "recorded, rendered, error, (normals,) emotional target and rendered, lips recorded and rendered",
}
"""Content of a stage's preview, from left to right."""


def write_page(folder: Path) -> Path:
    """Make the page of the run in ``folder``.

    Returns:
        The page's file.

    Raises:
        InputError: the folder holds no record of a run, or a damaged one.
    """
    rows = read_log(folder / LOG)
    if not of_kind(rows, "run"):
        raise InputError(f"{folder / LOG} is empty: the run ended before it began, so there is nothing to show.")
    with reading(f"The run's record {folder / LOG}", "has rows that do not fit together", "train again"):
        page = make_page(rows, folder)
    page.write(folder / PAGE)
    return folder / PAGE


def make_page(rows: list[Row], folder: Path) -> Page:
    """The page of the record ``rows``, with the images in ``folder``."""
    run = of_kind(rows, "run")[-1]
    page = Page("Training", f"{folder.name.removesuffix('.run')}, preset {run['settings']['preset']}, {run['time']}")
    page.verdict(*_outcome(rows))
    for warning in of_kind(rows, "warning"):
        page.verdict(warning["text"], "warn")
    for plot, caption in preview_plots(rows):
        page.plot(plot, caption)
    _strips(page, rows, folder)
    page.heading("Stages")
    page.table(*stage_table(rows))
    for plot, caption in step_plots(rows):
        page.plot(plot, caption)
    page.heading("Settings that differ from the preset")
    if deviations := deviations_of(run["settings"]):
        page.table(("setting", "preset", "this run"), deviations)
    else:
        page.text("None.")
    page.heading("Licences of what this avatar is made with")
    page.facts(run["licences"])
    page.heading("Made with")
    page.facts(dict(_facts(rows)))
    page.heading("All settings")
    page.facts(flat(run["settings"]["train"]))
    return page


def stage_table(rows: list[Row]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and a row a stage: iterations, time, speed, memory, Gaussians, held-out PSNR."""
    header = ("stage", "iterations", "time", "steps/s", "memory, host", "memory, GPU", "face", "mouth", "PSNR held out")
    table = []
    for stage in of_kind(rows, "stage"):
        steps = of_kind(rows, "step", stage["stage"])
        if not steps:
            continue
        last, previews = steps[-1], of_kind(rows, "frames", stage["stage"])
        speed = sorted(row["steps_per_second"] for row in steps)[len(steps) // 2]
        quality = next(
            (f"{previews[-1][k]:.2f} dB" for k in ("psnr", "psnr_mouth") if previews and k in previews[-1]), ""
        )
        table.append(
            (
                stage["stage"],
                f"{last['iteration']} of {stage['iterations']}",
                f"{last['seconds']:.0f} s",
                f"{speed:.1f}",
                f"{last['memory']['host']:.0f} MiB",
                f"{last['memory']['gpu']:.0f} MiB" if last["memory"]["gpu"] else "",
                str(last["gaussians"].get("face", "")),
                str(last["gaussians"].get("mouth", "")),
                quality + (" (inside of the mouth)" if stage["stage"] == "mouth" and quality else ""),
            )
        )
    return header, table


def deviations_of(settings: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Name, the preset's value and the run's, of every setting in which ``settings`` (a run's record) differs."""
    base, ours = flat(to_dict(preset(settings["preset"]))), flat(upgrade(TrainConfig, settings["train"]))
    names = [name for name in ours if name not in base or base[name] != ours[name]]
    return [(name, str(base.get(name, "absent")), str(ours[name])) for name in names]


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name."""
    flattened: dict[str, Any] = {}
    for name, value in values.items():
        flattened |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flattened


def _outcome(rows: list[Row]) -> tuple[str, Any]:
    """Outcome of the run, as a sentence with its colour."""
    begun = max(at for at, row in enumerate(rows) if row["kind"] == "run")
    ends = of_kind(rows[begun:], "end")
    reached = [steps[-1] for stage in of_kind(rows, "stage") if (steps := of_kind(rows, "step", stage["stage"]))]
    last = reached[-1] if reached else None
    where = "the first step" if last is None else f"iteration {last['iteration']} of the '{last['stage']}' stage"
    if not ends:
        return f"The run was cut off, or still runs: what follows goes up to {where}.", "warn"
    if ends[-1]["outcome"] == "finished":
        count = len(of_kind(rows, "warning"))
        suffix = "without a warning" if count == 0 else f"with {count} warning{'s' * (count > 1)}"
        return f"Training finished {suffix}.", "good" if count == 0 else "plain"
    if ends[-1]["outcome"] == "interrupted":
        return f"Training was interrupted after {where}; the same command goes on from the last checkpoint.", "warn"
    return f"Training failed after {where}: {ends[-1]['why']}", "bad"


def _strips(page: Page, rows: list[Row], folder: Path) -> None:
    """The last preview of each stage, and the four emotions."""
    kept = of_kind(rows, "run")[-1]["frames"]
    whose = "Held-out frames" if kept["held_out"] else "Training frames (none are held out)"
    page.heading(f"{whose} at the end of each stage")
    page.text(f"Frames {', '.join(str(number) for number in kept['fixed'])} are measured; three of them are shown.")
    for stage in of_kind(rows, "stage"):
        looks = of_kind(rows, "frames", stage["stage"])
        image = folder / preview_image(looks[-1]) if looks else None
        if image is not None and image.is_file():  # A run folder may have been thinned out.
            caption = f"{stage['stage']}, iteration {looks[-1]['iteration']}: {STRIPS[stage['stage']]}"
            page.image(image, f"{caption}; error x{ERROR_GAIN:g}")
    emotions = folder / "frames" / "emotions.jpg"
    if emotions.exists():
        page.heading("The four emotions, speaking the held-out sound")
        page.image(emotions, "neighbouring frames; each row the same sound and head motion")


def _facts(rows: list[Row]) -> Iterator[tuple[str, str]]:
    runs, run = of_kind(rows, "run"), of_kind(rows, "run")[-1]
    yield "command", run["command"]
    yield (
        "subject",
        f"{run['subject']}, {run['frames']['training']} training and {run['frames']['held_out']} held-out frames",
    )
    yield "clip, SHA-256", run["settings"]["clip"] or "not recorded"
    size = run["settings"]["size"]
    yield "image size", f"{size[0]} x {size[1]}"
    yield "worked on", f"{run['machine']['device']}: {run['machine']['name']}, {run['machine']['threads']} threads"
    worker = run["machine"].get("mouth_worker", run["machine"].get("beside"))  # records of 0.2 and before
    if worker is not None:
        yield "mouth stage, at the same time", f"{worker['device']}: {worker['name']}"
    yield "versions", ", ".join(f"{name} {version}" for name, version in run["machine"]["versions"].items())
    for number, row in enumerate(runs, 1):
        gone_on = "" if row["resumed"] is None else f", from iteration {row['resumed'][1]} of {row['resumed'][0]}"
        yield f"start {number}", row["time"] + gone_on


def preview_plots(rows: list[Row]) -> Iterator[tuple[Plot, str]]:
    """Quality of the preview frames over the whole run, and what sound and emotion bring to them, with captions."""
    quality = {"psnr": "whole frame", "psnr_head": "head", "psnr_lips": "lips", "psnr_mouth": "inside of the mouth"}
    gains = {
        "sound_gain": "own sound against another frame's",
        "eye_gain": "own action units against open eyes",
        "emotion_gain": "emotion against neutral",
    }
    explained = (
        "how much worse lips look with other sound, closed eyes with the units of open ones, and emotional faces "
        "without emotion; 0: nothing was learned"
    )
    starts, frames = stage_starts(rows), of_kind(rows, "frames")
    for names, unit, caption in (
        (quality, "PSNR [dB]", "PSNR of the preview frames"),
        (gains, "gain [dB]", explained),
    ):
        plot = Plot()
        for (name, label), colour in zip(names.items(), COLOURS, strict=False):
            points = [(starts[row["stage"]] + row["iteration"], row[name]) for row in frames if name in row]
            if points:
                plot.axes[0].plot(*zip(*points, strict=True), ".-", color=colour, label=label)
        if plot.axes[0].lines:
            _mark_stages(plot, rows)
            plot.axes[0].set(ylabel=unit)
            plot.figure.legend(ncols=4, frameon=False, loc="outside lower left")
            yield plot, caption


def step_plots(rows: list[Row]) -> Iterator[tuple[Plot, str]]:
    """Losses of each stage, then Gaussians and speed over the run, then the rates of each stage, with captions."""
    starts = stage_starts(rows)
    stages = {stage: steps for stage in starts if len(steps := of_kind(rows, "step", stage)) > 1}
    for stage, steps in stages.items():
        plot = Plot()
        sums = [row["loss"] for row in steps]
        plot.axes[0].plot([row["iteration"] for row in steps], sums, color="#1d2330", label="sum")
        _log_lines(plot, [(row["iteration"], row["terms"]) for row in steps], linewidth=0.9)
        plot.axes[0].legend(ncols=6, frameon=False)
        yield plot, f"{stage}: mean weighted loss terms"
    steps = sorted(of_kind(rows, "step"), key=lambda row: starts[row["stage"]] + row["iteration"])
    if len(steps) > 1:
        at = [starts[row["stage"]] + row["iteration"] for row in steps]
        plot = Plot(rows=2, height=3.6, sharex=True)
        for branch, colour in zip(("face", "mouth"), COLOURS, strict=False):
            counts = [row["gaussians"].get(branch, math.nan) for row in steps]
            plot.axes[0].plot(at, counts, color=colour, label=branch)
        plot.axes[0].set(ylabel="Gaussians", ylim=(0, None))
        plot.axes[0].legend(ncols=2, frameon=False)
        plot.axes[1].plot(at, [row["steps_per_second"] for row in steps], color=COLOURS[2])
        plot.axes[1].set(ylabel="steps / s", ylim=(0, None))
        _mark_stages(plot, rows)
        yield plot, "Gaussians of each branch, and steps a second (without the previews)"
    for stage, steps in stages.items():
        plot = Plot(height=2.0)
        _log_lines(plot, [(row["iteration"], row["rates"]) for row in steps], linewidth=1.0)
        plot.figure.legend(ncols=2, loc="outside right center", fontsize=7, frameon=False)
        yield plot, f"{stage}: learning rates"


def _log_lines(plot: Plot, values: list[tuple[int, Mapping[str, float]]], linewidth: float) -> None:
    """Draw what is greater than 0 of each name over the iterations of a stage."""
    names = dict.fromkeys(name for _, named in values for name in named)
    for name, colour in zip(names, cycle(COLOURS)):
        points = [(at, named[name]) for at, named in values if named.get(name, 0.0) > 0.0]
        if points:
            plot.axes[0].plot(*zip(*points, strict=True), color=colour, label=name, linewidth=linewidth)
    plot.axes[0].set(yscale="log", xlabel="iteration")


def _mark_stages(plot: Plot, rows: list[Row]) -> None:
    """Mark where stages begin on the run's axis of iterations."""
    starts = stage_starts(rows)
    end = sum(row["iterations"] for row in of_kind(rows, "stage"))
    for axes in plot.axes:
        for start in starts.values():
            axes.axvline(start, color="#c9ced8", linewidth=0.8)
        axes.set(xlim=(0, max(end, 1)))
    top = plot.axes[0].secondary_xaxis("top")
    top.set_xticks(list(starts.values()), list(starts), ha="left")
    top.tick_params(length=0, labelsize=8)
    top.spines["top"].set_visible(False)
    plot.axes[-1].set(xlabel="iteration of the run")
