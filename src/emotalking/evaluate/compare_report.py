"""Comparison from paths to files, and its report: tables, plots and images."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from emotalking.data import Subject
from emotalking.data.frame import to_runs
from emotalking.errors import InputError
from emotalking.evaluate.compare import Comparison, Row, common_frames, compare
from emotalking.evaluate.estimator_error import THE_MODEL, error_cell, error_notes, error_of, error_record
from emotalking.evaluate.evaluation_models import EvaluationModels
from emotalking.evaluate.intervals import BLOCK_S, DRAWS
from emotalking.evaluate.metrics import METRICS
from emotalking.evaluate.provenance import file_sha256, provenance
from emotalking.evaluate.results import make_folder, write_json
from emotalking.evaluate.speech import UnseenSpeech
from emotalking.evaluate.systems import RECORDING, System, is_avatar, open_system, open_unseen, to_same_length
from emotalking.evaluate.tables import best, bold_best, cell, detector_notes, measured_by, unmeasured
from emotalking.progress import bar
from emotalking.report import Page, Plot, Table
from emotalking.report.images import ERROR_GAIN, error_map, fit_width

FORMAT, VERSION = "emotalking-comparison", 1
_WIDE = 340
"""Pixels of an image on the page."""


def run_comparison(
    folder_of_subject: Path,
    systems: Mapping[str, str],
    folder: Path,
    device: torch.device,
    start: Mapping[str, int],
    frames: int | None,
    as_published: bool,
    models: Mapping[str, str],
    unseen: UnseenSpeech | None = None,
    command: str = "",
) -> Comparison:
    """Open the systems, score them and write the report; arguments as for :func:`emotalking.api.compare`.

    Raises:
        InputError: a system, start or model cannot be used, or ``folder`` cannot be made.
    """
    if frames is not None and frames < 1:
        raise InputError(f"frames: expected at least 1, got {frames}.")
    unknown = next((name for name in start if name and name not in systems), None)
    if unknown is not None:
        raise InputError(f"start: '{unknown}' is no system here; there are {', '.join(systems)}.")
    make_folder(folder)
    subject = Subject.open(folder_of_subject)
    if len(subject.val_indices) == 0:
        raise InputError(f"{subject.files.root} has no held-out frames (transforms_val.json is empty).")
    if unseen is not None and (start or as_published):
        word = "a start" if start else "the published protocol"
        raise InputError(f"{word} needs recorded frames, and with audio there are none: omit one of them.")
    if unseen is not None:
        opened = [open_unseen(name, path, subject, device, unseen) for name, path in systems.items()]
        opened = to_same_length(opened, unseen, float(subject.fps), frames)
    else:
        opened = []
        for name, path in systems.items():
            made_here = path == RECORDING or is_avatar(path)
            chosen = start.get(name, None if made_here else start.get(""))
            opened.append(open_system(name, path, subject, device, chosen))
    evaluation_models = EvaluationModels.open(
        lpips=models["lpips"], emotion=models["emotion_model"], sync=models["expert"], subject=subject, device=device
    )
    num_frames = len(common_frames(opened, frames)) * len(opened) * (1 + as_published)
    with bar() as progress:
        task = progress.add_task("compare", total=num_frames, note="")
        made = compare(
            subject,
            opened,
            evaluation_models,
            limit=frames,
            published=as_published,
            unseen=unseen,
            advance=lambda: progress.advance(task),
        )
    facts = provenance(subject, command=command)
    facts |= {"device": str(device), "evaluation_models": evaluation_models.names()}
    facts["systems"] = {
        name: {"path": path, "sha256": file_sha256(Path(path)) if Path(path).is_file() else None}
        for name, path in systems.items()
    }
    if unseen is not None:
        facts["sound"] = {"name": unseen.speech.name, "sha256": unseen.speech.sha256, "va": unseen.va}
    write_report(made, opened, subject, facts, folder)
    return made


def write_report(
    comparison: Comparison, systems: Sequence[System], subject: Subject, facts: Mapping[str, object], folder: Path
) -> None:
    """Write ``comparison.json``, ``table.md``, ``table.tex`` and ``report.html``.

    Args:
        systems: of the comparison, for their images.
        facts: of ``provenance.provenance``.
        folder: made if missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(
        folder / "comparison.json", {"format": FORMAT, "version": VERSION, "provenance": facts, **_facts(comparison)}
    )
    page = Page("Comparison", caption(comparison))
    page.table(main_table(comparison), caption=caption(comparison))
    parts = {
        f"Against {comparison.reference.name}": difference_table(comparison),
        "Measured as the baseline does, on re-encoded video": published_table(comparison),
    }
    for title, table in parts.items():
        if table is not None:
            page.heading(title)
            page.table(table, caption=title)
    for note in notes_of(comparison):
        page.text(note)
    _plots(page, comparison)
    _images(page, comparison, systems, subject)
    page.heading("Made with")
    page.facts(facts)
    page.write_report(folder)


def caption(comparison: Comparison) -> str:
    """Caption of the tables."""
    count = len(comparison.indices)
    if comparison.speech:
        return f"{count} frames of {Path(comparison.subject).name} saying {comparison.speech}, without recorded frames"
    return f"{count} held-out frames ({to_runs(comparison.indices)}) of {Path(comparison.subject).name}"


def shown_metrics(comparison: Comparison) -> list[str]:
    """Names of the metrics that some system has, in the order of the tables; the recording's own are left out."""
    return [
        name
        for name, kind in METRICS.items()
        if kind.ranks
        and any(name in row.metrics and not math.isnan(row.metrics[name].value) for row in comparison.rows)
    ]


def main_table(comparison: Comparison) -> Table:
    """Every system's metrics with half the width of their 95 % intervals; the best of a column is bold."""
    names = shown_metrics(comparison)
    compared = [row for row in comparison.rows if row.kind != "recording"]
    bests = {name: best(row.metrics.get(name) for row in compared) for name in names}
    rows = []
    for row in comparison.rows:
        wanted = bests if row.kind != "recording" else dict.fromkeys(names)
        rows.append([row.name, *(bold_best(_value(row, n), row.metrics.get(n), wanted[n]) for n in names)])
    own = [error_cell((name,), comparison.reference.metrics) for name in names]
    if set(own) - {"-"}:
        rows.append([THE_MODEL, *("–" if text == "-" else text for text in own)])
    return Table(["system", *(METRICS[name].head for name in names)], rows)


def difference_table(comparison: Comparison) -> Table | None:
    """Differences from the reference and the chance of each under equal systems; None with one system only."""
    others = [row for row in comparison.rows if row.differences]
    names = [name for name in shown_metrics(comparison) if any(name in row.differences for row in others)]
    if not names:
        return None
    rows = [[row.name, *(_difference(row, name) for name in names)] for row in others]
    return Table(["difference (p)", *(METRICS[name].head for name in names)], rows)


def published_table(comparison: Comparison) -> Table | None:
    """Metrics as rendered, as published, and their difference; None if not requested."""
    names = [name for name in METRICS if any(name in row.published for row in comparison.rows)]
    if not names:
        return None
    ways = ("as rendered", "re-encoded", "change")
    header = ["system", *(f"{METRICS[name].title} {way}" for name in names for way in ways)]
    rows = []
    for row in comparison.rows:
        cells = [row.name]
        for name in names:
            spec = METRICS[name]
            plain = row.metrics[name].value
            encoded = row.published[name].value
            cells += [spec.text(plain, none="–"), spec.text(encoded, none="–")]
            cells.append(spec.text(encoded - plain, sign=True, none="–"))
        rows.append(cells)
    return Table(header, rows)


def notes_of(comparison: Comparison) -> list[str]:
    """Notes to the tables."""
    names = shown_metrics(comparison)
    notes = [f"{row.name}: {row.note}." for row in comparison.rows if row.note]
    notes += measured_by(row.metrics.get(name) for name in names for row in comparison.rows)
    for row in comparison.rows:
        gaps = {f.missing for name in names if (f := row.metrics.get(name)) is not None and f.missing}
        if gaps:
            notes.append(f"{row.name}: up to {max(gaps)} of {len(comparison.indices)} frames without a face or metric.")
    if any(row.intervals for row in comparison.rows):
        notes.append(
            f"± is half the 95 % interval of a circular block bootstrap ({DRAWS} resamples of blocks of {BLOCK_S:g} s,"
            f" {comparison.block} frames); intervals in full are in comparison.json."
        )
    if any(row.p for row in comparison.rows):
        notes.append(
            "p is two-sided, of a permutation test that swaps the systems in whole blocks; it is not corrected for the"
            " number of tests."
        )
    metrics = comparison.reference.metrics
    notes += error_notes(metrics)
    notes += detector_notes(row.metrics for row in comparison.rows if row.kind == "recording")
    own = metrics.get("identity_truth")
    if "identity" in names and own is not None and not math.isnan(own.value):
        notes.append(f"{METRICS['identity_truth'].title}: {cell(own)}.")
    notes += unmeasured(metrics)
    if any(row.metrics and not row.intervals for row in comparison.rows):
        notes.append("Without an interval: too few frames for four blocks, or a metric of the run as a whole.")
    return notes


def _value(row: Row, name: str) -> str:
    """A value with half the width of its interval."""
    text, interval = cell(row.metrics.get(name), "–"), row.intervals.get(name)
    if interval is None or text == "–":
        return text
    return f"{text} ± {METRICS[name].text((interval.high - interval.low) / 2, none='–')}"


def _difference(row: Row, name: str) -> str:
    if name not in row.differences:
        return "–"
    text = METRICS[name].text(row.differences[name], sign=True, none="–")
    return f"{text} ({row.p[name]:.3f})" if name in row.p else text


def _facts(comparison: Comparison) -> dict[str, Any]:
    return {
        "subject": comparison.subject,
        "frames": to_runs(comparison.indices),
        "speech": comparison.speech,
        "estimator_error": error_record(known[0]) if (known := error_of(comparison.reference.metrics)) else None,
        "fps": comparison.fps,
        "block_frames": comparison.block,
        "reference": comparison.reference.name,
        "systems": [
            {"as_published" if name == "published" else name: value for name, value in vars(row).items()}
            | {"intervals": {name: [i.low, i.high] for name, i in row.intervals.items()}}
            for row in comparison.rows
        ],
    }


def _plots(page: Page, comparison: Comparison) -> None:
    """PSNR and mouth distance over time."""
    for name in (name for name, spec in METRICS.items() if spec.over_time):
        lines = [(row.name, row.metrics[name].per_frame) for row in comparison.rows if name in row.metrics]
        lines = [(label, values) for label, values in lines if values is not None and np.isfinite(values).any()]
        if not lines:
            continue
        plot = Plot()
        for label, values in lines:
            plot.axes[0].plot(comparison.indices, np.where(np.isfinite(values), values, np.nan), label=label)
        plot.axes[0].set_ylabel(f"{METRICS[name].title} [{METRICS[name].unit}]")
        plot.axes[0].set_xlabel("frame of the clip")
        plot.axes[0].legend(ncols=len(lines))
        page.plot(plot, f"{METRICS[name].title} of every frame")


def chosen_frames(comparison: Comparison) -> dict[str, int]:
    """Worst, median and best frame of the reference system by PSNR: title and frame of the subject."""
    metric = comparison.reference.metrics.get("psnr")
    if metric is None or metric.per_frame is None:
        return {"middle": int(comparison.indices[len(comparison.indices) // 2])}
    order = comparison.indices[np.argsort(metric.per_frame, kind="stable")]
    return {"worst": int(order[0]), "median": int(order[len(order) // 2]), "best": int(order[-1])}


def _images(page: Page, comparison: Comparison, systems: Sequence[System], subject: Subject) -> None:
    """Systems side by side, errors beneath, on the frames of :func:`chosen_frames`."""
    chosen = chosen_frames(comparison)
    wanted: Int64[np.ndarray, " n"] = np.array(sorted(set(chosen.values())), np.int64)
    others = [system for system in systems if system.source.kind != "recording"]
    shown = {s.name: dict(zip(wanted.tolist(), s.frames(wanted), strict=True)) for s in others}
    page.heading("Images" if comparison.speech else f"Images (errors {ERROR_GAIN:g} times enlarged)")
    for title, index in chosen.items():
        if comparison.speech:
            page.text(f"Frame {index} of the sound.")
            page.images([fit_width(frames[index], _WIDE) for frames in shown.values()], list(shown))
            continue
        truth = subject.target(index)
        page.text(f"Frame {index}: {title} of {comparison.reference.name} by PSNR.")
        images = [truth, *(frames[index] for frames in shown.values())]
        errors = [np.zeros_like(truth), *(error_map(frames[index], truth) for frames in shown.values())]
        both = [fit_width(np.concatenate([image, error]), _WIDE) for image, error in zip(images, errors, strict=True)]
        page.images(both, ["recorded", *shown])
