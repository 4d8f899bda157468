"""Evaluate an avatar from files to files, or reproduce an earlier report."""

import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from emotalking.data import Subject
from emotalking.errors import UserError
from emotalking.evaluate.config import EvaluateConfig
from emotalking.evaluate.metrics import METRICS
from emotalking.evaluate.page import make_page
from emotalking.evaluate.results import Report, read_report, write_report
from emotalking.evaluate.scenarios import SPEECH, run_scenarios

REPORT = "report.json"


@dataclass(frozen=True)
class Reproduction:
    """A reproduced report, compared with the original."""

    report: Report
    inputs: list[str]
    """Inputs that have changed since."""
    metrics: list[str]
    """Metrics that differ."""
    compared: int
    """Metrics that were compared."""


def evaluate(
    avatar: Path,
    subject: Path,
    folder: Path,
    options: EvaluateConfig,
    *,
    device: torch.device | str = "cpu",
    command: str = "",
    log: Callable[[str], Any] = print,
) -> Report:
    """Score an avatar in the paper's scenarios and write `report.json`, `table.md`, `table.tex` and `report.html`.

    Raises:
        UserError: as ``scenarios.run_scenarios``; or ``folder`` cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be made ({error.strerror}): choose another.") from error
    report = run_scenarios(avatar, Subject.open(subject), options, folder, device=device, command=command, log=log)
    write_report(report, folder / REPORT)
    make_page(report, folder).write_report(folder)
    return report


def reproduce(
    report_file: Path,
    folder: Path,
    *,
    avatar: Path | None = None,
    subject: Path | None = None,
    device: torch.device | str = "cpu",
    command: str = "",
    log: Callable[[str], Any] = print,
) -> Reproduction:
    """Reproduce a report from its own JSON and compare.

    Args:
        avatar, subject: where these lie now; None: where they lay then.

    Raises:
        UserError: the report, or something that it needs, cannot be used; or ``folder`` holds that very report.
    """
    before = read_report(report_file)
    if folder.resolve() == report_file.resolve().parent:
        raise UserError(f"{folder} holds the report that is to be reproduced: give another folder.")
    paths = (avatar or Path(before.options["avatar"]), subject or Path(before.options["subject"]))
    kept = report_file.parent / SPEECH
    if kept.is_dir():
        shutil.copytree(kept, folder / SPEECH, dirs_exist_ok=True)
    after = evaluate(*paths, folder, options_of(before), device=device, command=command, log=log)
    differ, compared = changed_metrics(before, after)
    return Reproduction(after, changed_inputs(before, after), differ, compared)


def options_of(report: Report) -> EvaluateConfig:
    """Options of a report's evaluation.

    Raises:
        UserError: the report was edited into something that cannot be asked for.
    """
    return EvaluateConfig.of(
        {name: value for name, value in report.options.items() if name not in ("avatar", "subject")}
    )


def changed_inputs(before: Report, after: Report) -> list[str]:
    """Inputs that differ between two evaluations, one sentence each."""
    old, new = before.provenance, after.provenance
    named = {
        "the avatar file": lambda known: known["avatar"]["sha256"],
        "the clip": lambda known: known["data"]["clip"],
        "the training frames": lambda known: _split(known, "train"),
        "the held-out frames": lambda known: _split(known, "val"),
        "the speech": lambda known: [sound["sha256"] for sound in known["sounds"]],
        "the evaluation models": lambda known: known["evaluation_models"],
        "the code": lambda known: known["source_sha256"],
        "the packages": lambda known: known["packages"],
        "the machine": lambda known: (known["machine"], known["device"]),
    }
    return [f"{name} changed: {get(old)} then, {get(new)} now" for name, get in named.items() if get(old) != get(new)]


def changed_metrics(before: Report, after: Report) -> tuple[list[str], int]:
    """Metrics that differ by more than the last digit that is printed, and how many were compared."""
    found, count = [], 0
    for name, old, new in _matched(before, after):
        count += 1
        digits = METRICS[name[-1]].digits if name[-1] in METRICS else 3
        same = (math.isnan(old) and math.isnan(new)) or old == new or abs(old - new) <= 0.5 * 10.0**-digits
        if not same:
            found.append(f"{', '.join(name)}: {old:.{digits + 1}f} then, {new:.{digits + 1}f} now")
    return found, count


def _matched(before: Report, after: Report) -> Iterator[tuple[tuple[str, ...], float, float]]:
    """Every metric of both reports; one that only one of them has counts as nan in the other."""
    old, new = _values(before), _values(after)
    for name in dict.fromkeys([*old, *new]):
        yield name, old.get(name, math.nan), new.get(name, math.nan)


def _values(report: Report) -> dict[tuple[str, ...], float]:
    return {
        (result.scenario, run.system, run.title, name): metric.value
        for result in report.results
        for run in result.runs
        for name, metric in run.metrics.items()
        if name not in METRICS or METRICS[name].reproducible
    }


def _split(known: dict[str, Any], name: str) -> tuple[str, str]:
    split = known["data"][name]
    return split["numbers_sha256"][:16], split["targets_sha256"][:16]
