"""Evaluate an avatar from files to files, or reproduce an earlier report."""

import logging
import math
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from emotalking.data import Subject
from emotalking.errors import InputError
from emotalking.evaluate.config import EvaluateConfig, Scenario
from emotalking.evaluate.estimator_error import error_record
from emotalking.evaluate.evaluation_models import EvaluationModels
from emotalking.evaluate.held_out import check_pair
from emotalking.evaluate.metrics import METRICS
from emotalking.evaluate.page import make_page
from emotalking.evaluate.provenance import facts_sha256, provenance, source_sha256
from emotalking.evaluate.results import (
    Report,
    ReportImage,
    Result,
    make_folder,
    read_report,
    read_result,
    write_json,
    write_report,
)
from emotalking.evaluate.scenarios import SCENARIO_SPECS, Session
from emotalking.evaluate.speech import sounds_to_speak
from emotalking.io.images import write_image
from emotalking.io.reading import reading
from emotalking.io.settings import from_dict
from emotalking.models.avatar import Avatar
from emotalking.progress import bar, doing

_logger = logging.getLogger(__name__)

REPORT = "report.json"
SPEECH = "speech"
"""Folder of a report for its synthesized sentences."""
IMAGES = "images"


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
) -> Report:
    """Score an avatar in the paper's scenarios and write `report.json`, `table.md`, `table.tex` and `report.html`.

    A finished scenario is stored in ``folder``; the same evaluation, restarted, resumes after it.

    Args:
        avatar: trained avatar file.
        subject: the folder that it was trained on.
        folder: results and images of the scenarios; made if missing.
        command: how it was called, for the report.

    Raises:
        InputError: avatar and subject do not belong together (see ``held_out.check_pair``), a sound, expert or model
            cannot be used, or ``folder`` cannot be made.
    """
    make_folder(folder)
    session = _session(avatar, Subject.open(subject), options, folder, device)
    facts = _facts(session, avatar, device, command)
    totals = {name: SCENARIO_SPECS[name].num_frames(session) for name in options.scenarios}
    results = []
    with bar() as progress:
        task = progress.add_task("evaluate", total=sum(totals.values()), note="")
        session.advance = lambda: progress.advance(task)
        for name in options.scenarios:
            progress.update(task, note=name)
            key = fingerprint(name, facts, options)
            result = read_result(folder / f"{name}.json", key)
            if result is None:
                result = _score(name, key, session, folder)
                write_json(folder / f"{name}.json", result)
                _logger.info("%s: %d frames in %.0f s", name, totals[name], result.seconds)
            else:
                progress.advance(task, totals[name])
                _logger.info("%s: kept from before (nothing has changed)", name)
            results.append(result)
    requested = asdict(options) | {"avatar": str(avatar), "subject": str(session.subject.files.root)}
    report = Report(requested, facts, tuple(results), facts["command"])
    write_report(report, folder / REPORT)
    make_page(report, folder).write_report(folder)
    return report


def _session(
    avatar_file: Path, subject: Subject, options: EvaluateConfig, folder: Path, device: torch.device | str
) -> Session:
    avatar = Avatar.load(avatar_file, device)
    check_pair(avatar, subject)
    with doing("loading the networks that measure"):
        models = EvaluationModels.open(
            lpips=options.lpips, emotion=options.emotion_model, sync=options.expert, subject=subject, device=device
        )
    longest = None if options.frames is None else options.frames / float(subject.fps)
    speak = any(name != "self" for name in options.scenarios)
    sounds = sounds_to_speak([Path(file) for file in options.audio], folder / SPEECH, longest) if speak else ()
    return Session(avatar, subject, options, models, sounds)


def _facts(session: Session, avatar_file: Path, device: torch.device | str, command: str) -> dict[str, Any]:
    """Provenance of the report."""
    models = session.models
    facts = provenance(session.subject, avatar_file, command)
    facts |= {"source_sha256": source_sha256(), "device": str(device), "evaluation_models": models.names()}
    facts["training"] = {key: session.avatar.metadata.get(key) for key in ("run", "sync", "command", "versions")}
    facts["estimator_error"] = None if models.emotion is None else error_record(models.emotion.name)
    facts["sounds"] = [{"name": sound.name, "sha256": sound.sha256} for sound in session.sounds]
    return facts


def fingerprint(scenario: str, facts: dict[str, Any], options: EvaluateConfig) -> str:
    """Hash of everything that a scenario's metrics depend on: code, packages, machine, data, avatar, sounds, models."""
    parts = ("source_sha256", "packages", "machine", "device", "data", "avatar", "evaluation_models")
    relevant: dict[str, Any] = {part: facts[part] for part in parts} | {"scenario": scenario, "frames": options.frames}
    relevant |= {"evenly": options.evenly} if scenario == "self" else {"sounds": facts["sounds"]}
    return facts_sha256(relevant)


def _score(name: Scenario, key: str, session: Session, folder: Path) -> Result:
    """Score one scenario and store its images."""
    begin = time.perf_counter()
    runs, named, notes = SCENARIO_SPECS[name].score(session)
    stored = []
    for image in named:
        stored.append(ReportImage(f"{IMAGES}/{image.name}.png", image.caption))
        write_image(folder / stored[-1].file, image.image)
    return Result(name, key, time.perf_counter() - begin, tuple(runs), tuple(stored), tuple(notes))


def reproduce(
    report_file: Path,
    folder: Path,
    *,
    avatar: Path | None = None,
    subject: Path | None = None,
    device: torch.device | str = "cpu",
    command: str = "",
) -> Reproduction:
    """Reproduce a report from its own JSON and compare.

    Args:
        avatar, subject: where these lie now; None: where they lay then.

    Raises:
        InputError: the report, or something that it needs, cannot be used; or ``folder`` holds that very report.
    """
    before = read_report(report_file)
    if folder.resolve() == report_file.resolve().parent:
        raise InputError(f"{folder} holds the report that is to be reproduced: give another folder.")
    paths = (avatar or Path(before.options["avatar"]), subject or Path(before.options["subject"]))
    kept = report_file.parent / SPEECH
    if kept.is_dir():
        shutil.copytree(kept, folder / SPEECH, dirs_exist_ok=True)
    with reading(report_file, "has options of no evaluation", "give the report.json that an evaluation wrote"):
        given = {name: value for name, value in before.options.items() if name not in ("avatar", "subject")}
        options = from_dict(EvaluateConfig, given)
    after = evaluate(*paths, folder, options, device=device, command=command)
    differ, compared = changed_metrics(before, after)
    return Reproduction(after, changed_inputs(before, after), differ, compared)


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
    old_values, new_values = _values(before), _values(after)
    # A metric that only one of the reports has counts as nan in the other.
    names = dict.fromkeys([*old_values, *new_values])
    found = []
    for name in names:
        old, new = old_values.get(name, math.nan), new_values.get(name, math.nan)
        digits = METRICS[name[-1]].digits if name[-1] in METRICS else 3
        same = (math.isnan(old) and math.isnan(new)) or old == new or abs(old - new) <= 0.5 * 10.0**-digits
        if not same:
            found.append(f"{', '.join(name)}: {old:.{digits + 1}f} then, {new:.{digits + 1}f} now")
    return found, len(names)


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
