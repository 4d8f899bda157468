"""Ablations of the paper's table 4 (4.4): train and evaluate a subject's avatar without each part of the method.

The report is table 4 with more columns, and images.
"""

import logging
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from emotalking.data import Subject
from emotalking.errors import InputError
from emotalking.evaluate.config import AblationConfig, EvaluateConfig, Scenario
from emotalking.evaluate.evaluation import evaluate
from emotalking.evaluate.evaluation_models import find_expert
from emotalking.evaluate.metrics import METRICS, Metric
from emotalking.evaluate.results import AVATAR, Report, make_folder, read_report, write_json
from emotalking.evaluate.scenarios import SCENARIO_SPECS
from emotalking.evaluate.tables import best, bold_best, cell, measured_by
from emotalking.io.settings import override
from emotalking.jobs.engine import Engine
from emotalking.jobs.job import Job
from emotalking.lipsync.training import train_expert
from emotalking.report import Page, Table
from emotalking.train.many import train_command
from emotalking.train.presets import preset
from emotalking.train.run import is_up_to_date, train

_logger = logging.getLogger(__name__)

FULL = "full"
VARIANTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "no_normal": (
        "without the normal loss",
        (
            "face.losses.normal=0",
            "face.losses.normal_tv=0",
            "face.losses.normal_residual=0",
            "emotion.losses.normal=0",
            "emotion.losses.normal_tv=0",
        ),
    ),
    "no_sync": ("without the sync loss", ("sync.expert=none",)),
    "combined": ("combined face branch", ("model.emotion.branch=combined",)),
    "no_emotion": ("without the emotion branch", ("model.emotion.branch=none",)),
    FULL: ("full model", ()),
}
"""Title and settings of each row, in the order of table 4."""
NORMAL_WEIGHTS = ("face.losses.normal=0.05", "face.losses.normal_tv=0.005", "face.losses.normal_residual=0.001")
"""Weights of the paper (S4.3), for presets without the normal terms."""
AUDIO_RATE = "optim.audio=1e-4"
"""Of the encoders that a sync loss teaches, for presets that keep them as pretrained."""
TRAINING_EXPERT = "trainer_expert.safetensors"
EVALUATION_EXPERT = "evaluation_expert.safetensors"
"""Personal sync experts: one trains, another, of other random draws, measures. Measured by its own teacher, the model
with the sync loss would look better than it is."""

FORMAT, VERSION = "emotalking-ablation", 1
PUBLISHED = Table(
    ("Method", "LPIPS ↓", "Sync-C ↑", "E-Acc top-3 [%] ↑"),
    (
        ("without the normal loss", "0.0274", "6.090", "45.4"),
        ("without the sync loss", "0.0269", "5.925", "46.1"),
        ("combined face branch", "0.0253", "4.489", "42.1"),
        ("without the emotion branch", "0.0255", "6.270", "25.3"),
        ("full model", "0.0267", "6.279", "46.6"),
    ),
)
"""Table 4 of arXiv 2502.00654: mean of four subjects, SyncNet v2, EmoNet. Its first two row names lost their symbols in
the text at hand; by the text, the first has the worst LPIPS (normal loss), the second the worst Sync-C (sync loss)."""
NOT_COMPARABLE = "Table 4 of arXiv 2502.00654 (other data, other experts: not comparable)"
_IMAGES = ("self_median", "cross_0", "emotion_circle")


@dataclass(frozen=True)
class Plan:
    """Trainings of an ablation."""

    settings: dict[str, tuple[str, ...]]
    """Settings of each variant, in the order of the table."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Variants that would be no different from the full model, and why."""
    training_expert: Path | None = None
    """Expert of the sync loss that is to be made first."""
    evaluation_expert: Path | None = None
    """Expert that is to be made to measure."""


@dataclass(frozen=True)
class Ablation:
    """Result of an ablation."""

    plan: Plan
    reports: dict[str, Report]
    """Report of each variant that was trained."""


def make_plan(subject: Subject, options: AblationConfig, folder: Path) -> Plan:
    """Decide what each variant is trained with.

    The full model has everything on that one of the chosen variants takes away: a preset without normal terms gets the
    paper's weights, one without a sync expert a personal one and audio encoders that learn from it.

    Raises:
        InputError: an unknown variant, preset or setting.
    """
    unknown = [name for name in options.variants if name not in VARIANTS]
    if unknown or not options.variants:
        raise InputError(f"there is no variant '{', '.join(unknown)}': choose among {', '.join(VARIANTS)}.")
    base, left_out = list(options.settings), {}
    config = override(preset(options.preset), base)
    trainer = None
    if "no_normal" in options.variants:
        if not subject.files.normals(0).parent.is_dir():
            left_out["no_normal"] = (
                f"{subject.files.root} has no normal maps (prepare the clip with mesh normals), so there is no normal"
                " loss to take away"
            )
        elif config.face.losses.normal == 0:
            base += NORMAL_WEIGHTS
    if "no_sync" in options.variants and config.sync.expert in ("none", "personal"):
        trainer = folder / TRAINING_EXPERT
        base.append(f"sync.expert={trainer}")
        if not config.optim.audio:
            base.append(AUDIO_RATE)
    names = [name for name in VARIANTS if name in options.variants and name not in left_out]
    settings = {name: (*base, *VARIANTS[name][1]) for name in names}
    for chosen in settings.values():
        override(preset(options.preset), list(chosen))
    own = options.expert == "own" or (options.expert == "auto" and find_expert(subject) != "syncnet")
    return Plan(settings, left_out, trainer, folder / EVALUATION_EXPERT if own else None)


def ablate(subject_folder: Path, folder: Path, options: AblationConfig, engine: Engine) -> Ablation:
    """Train and score every variant; finished parts of an earlier run are reused, interrupted ones resumed.

    Args:
        folder: gets a file, a folder and a log for each variant.
        engine: runs the variants, and before them the trainings of the sync experts.

    Raises:
        InputError: something cannot be used, or a variant failed (the others are finished first).
    """
    subject_folder, folder = subject_folder.absolute(), folder.absolute()
    subject = Subject.open(subject_folder)
    make_folder(folder)
    plan = make_plan(subject, options, folder)
    for name, reason in plan.left_out.items():
        _logger.info("%s: left out, because %s", VARIANTS[name][0], reason)
    experts = []
    for seed, path in enumerate((plan.training_expert, plan.evaluation_expert)):
        if path is not None:
            work = partial(_train_expert, subject_folder, path, options.expert_steps, engine.device, seed)
            experts.append(Job(path.stem, path, work, folder / f"{path.stem}.log", path.is_file))
    _run(experts, engine)
    variants = []
    for name, settings in plan.settings.items():
        avatar = folder / f"{name}.safetensors"
        expert = options.expert if plan.evaluation_expert is None else str(plan.evaluation_expert)
        scored = EvaluateConfig(
            frames=options.frames, expert=expert, emotion_model=options.emotion_model, lpips=options.lpips
        )
        work = partial(_variant, subject_folder, avatar, options.preset, list(settings), scored, engine.device)
        variants.append(Job(VARIANTS[name][0], folder / name, work, folder / f"{name}.log"))
    _run(variants, engine)
    return Ablation(plan, {name: read_report(folder / name / "report.json") for name in plan.settings})


def _run(jobs: Sequence[Job], engine: Engine) -> None:
    """Run jobs, all of which must succeed."""
    logs = {job.name: job.log for job in jobs}
    failed = [f"{one.name}: {one.why} (see {logs[one.name]})" for one in engine.run(jobs) if one.state == "failed"]
    if failed:
        raise InputError(f"{'; '.join(failed)}: fix the reported error and rerun; what is finished is kept.")


def _train_expert(subject: Path, path: Path, steps: int | None, device: str, seed: int) -> None:
    train_expert([Subject.open(subject)], path, steps=steps, device=device, seed=seed)


def _variant(
    subject: Path, avatar: Path, preset_name: str, settings: list[str], options: EvaluateConfig, device: str
) -> None:
    """Train and score one variant; what is finished of it is kept."""
    if not avatar.exists():
        command = train_command(subject, avatar, preset_name, settings)
        with _named("the training"):
            train(subject, avatar, preset_name, device, settings, command=command)
    elif not is_up_to_date(avatar, subject, preset_name, settings):
        raise InputError(
            f"{avatar} was trained with other settings than this ablation's (remove it, or give another folder)."
        )
    given = {"expert": options.expert, "emotion-model": options.emotion_model, "lpips": options.lpips}
    given |= {} if options.frames is None else {"frames": str(options.frames)}
    out = avatar.with_suffix("")
    words = ["emotalking", "evaluate", str(avatar), str(subject), "-o", str(out)]
    words += [word for name, value in given.items() for word in (f"--{name}", value)]
    with _named("the evaluation"):
        evaluate(avatar, subject, out, options, device=device, command=shlex.join(words))


@contextmanager
def _named(part: str) -> Iterator[None]:
    """Say of a failure in which part it was."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{part} failed: {error}") from error


Column = tuple[Scenario, str]
"""Scenario and metric."""


def columns() -> list[Column]:
    """Scenario and metric of each column; the paper's three (LPIPS, Sync-C, E-Acc) first."""
    placed: list[tuple[int, Scenario, str]] = [
        (at, scenario, name) for name, spec in METRICS.items() for scenario, at in spec.ablation.items()
    ]
    return [(scenario, name) for _, scenario, name in sorted(placed)]


def metrics_of(report: Report) -> dict[Column, Metric]:
    """The avatar's metrics by scenario and name, where they could be had."""
    return {
        (result.scenario, name): metric
        for result in report.results
        for name, metric in result.summary(AVATAR).items()
        if not math.isnan(metric.value)
    }


def ablation_table(ablation: Ablation) -> Table:
    """A row a variant; the best of each column is bold."""
    found = {name: metrics_of(report) for name, report in ablation.reports.items()}
    there = [column for column in columns() if any(column in metrics for metrics in found.values())]
    bests = {column: best(metrics.get(column) for metrics in found.values()) for column in there}
    rows = [
        [VARIANTS[name][0], *(bold_best(cell(m.get(c), "–"), m.get(c), bests[c]) for c in there)]
        for name, m in found.items()
    ]
    heads = [f"{SCENARIO_SPECS[scenario].prefix}{METRICS[name].head}" for scenario, name in there]
    return Table(["Method", *heads], rows)


def notes_of(ablation: Ablation, options: AblationConfig) -> list[str]:
    """Notes to the table."""
    notes = [f"{VARIANTS[name][0]}: left out, because {reason}." for name, reason in ablation.plan.left_out.items()]
    notes += measured_by(metrics_of(report).get(column) for report in ablation.reports.values() for column in columns())
    if ablation.plan.evaluation_expert is not None and ablation.plan.training_expert is not None:
        notes.append("The personal expert that measures is another than the one that trained the sync loss.")
    notes.append(
        f"Every variant: preset {options.preset}, same seed, same data; one run each, so differences of the size of a"
        " rerun with another seed mean nothing."
    )
    return notes


def write_ablation(ablation: Ablation, options: AblationConfig, facts: Mapping[str, object], folder: Path) -> None:
    """Write ``ablation.json``, ``table.md``, ``table.tex`` and ``report.html``.

    Args:
        facts: of ``provenance.provenance``.
    """
    data = {
        "format": FORMAT,
        "version": VERSION,
        "provenance": facts,
        "options": dict(vars(options)),
        "left_out": ablation.plan.left_out,
        "variants": {
            name: {
                "title": VARIANTS[name][0],
                "settings": list(ablation.plan.settings[name]),
                "avatar": report.provenance.get("avatar"),
                "metrics": {
                    f"{result.scenario}.{metric.name}": _short(metric)
                    for result in report.results
                    for metric in result.summary(AVATAR).values()
                },
            }
            for name, report in ablation.reports.items()
        },
    }
    write_json(folder / "ablation.json", data)
    page = Page("Ablations", f"preset {options.preset}")
    page.table(ablation_table(ablation), caption="Ablations")
    for note in notes_of(ablation, options):
        page.text(note)
    page.heading(NOT_COMPARABLE)
    page.table(PUBLISHED)
    for stem in _IMAGES:
        _images(page, ablation, folder, stem)
    page.write_report(folder)


def _images(page: Page, ablation: Ablation, folder: Path, stem: str) -> None:
    """The same image of every variant's evaluation, one below the other."""
    heading = True
    for name, report in ablation.reports.items():
        for image in (image for result in report.results for image in result.images):
            path = folder / name / image.file
            if path.stem == stem and path.exists():
                if heading:
                    page.heading(image.caption)
                heading = False
                page.image(path, VARIANTS[name][0])


def _short(metric: Metric) -> dict[str, Any]:
    """Without the values per frame, which are in the variant's own report."""
    return {name: getattr(metric, name) for name in ("value", "unit", "model", "frames", "missing", "reason")}
