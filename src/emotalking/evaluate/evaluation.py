"""One evaluation from files to files: run the scenarios, write the report, or make a report again."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from emotalking.data import Subject
from emotalking.errors import UserError
from emotalking.evaluate.config import EvaluateConfig
from emotalking.evaluate.page import make_page
from emotalking.evaluate.reproduce import changed_inputs, changed_metrics, options_of
from emotalking.evaluate.results import Report, read_report, write_report
from emotalking.evaluate.scenarios import SPEECH, run_scenarios

REPORT = "report.json"


@dataclass(frozen=True)
class Reproduction:
    """A report made again, and how it compares."""

    report: Report
    inputs: list[str]
    """What had changed meanwhile."""
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
    """Make a report again from its own JSON and compare.

    Args:
        avatar, subject: where these lie now; None: where they lay then.

    Raises:
        UserError: the report, or something that it needs, cannot be used; or ``folder`` holds that very report.
    """
    before = read_report(report_file)
    if folder.resolve() == report_file.resolve().parent:
        raise UserError(f"{folder} holds the report that is to be made again: give another folder.")
    paths = (avatar or Path(before.options["avatar"]), subject or Path(before.options["subject"]))
    kept = report_file.parent / SPEECH
    if kept.is_dir():
        shutil.copytree(kept, folder / SPEECH, dirs_exist_ok=True)
    after = evaluate(*paths, folder, options_of(before), device=device, command=command, log=log)
    differ, compared = changed_metrics(before, after)
    return Reproduction(after, changed_inputs(before, after), differ, compared)
