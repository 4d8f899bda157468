"""Ablations of the paper's table 4 (4.4): train and evaluate a subject's avatar without each part of the method."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emotalking.data import Subject
from emotalking.errors import UserError
from emotalking.evaluate.config import AblationConfig
from emotalking.evaluate.evaluation_models import find_expert
from emotalking.evaluate.results import Report, read_report
from emotalking.io.settings import override
from emotalking.lipsync.training import train_expert
from emotalking.train.presets import preset
from emotalking.train.run import is_up_to_date
from emotalking.train.workers import Runner, WorkerPool

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
TRAINING_EXPERT = "trainer_expert.safetensors"
EVALUATION_EXPERT = "evaluation_expert.safetensors"
"""Personal sync experts: one trains, another, of other random draws, measures. Measured by its own teacher, the model
with the sync loss would look better than it is."""


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
    paper's weights, one without a sync expert a personal one.

    Raises:
        UserError: an unknown variant, preset or setting.
    """
    unknown = [name for name in options.variants if name not in VARIANTS]
    if unknown or not options.variants:
        raise UserError(f"there is no variant '{', '.join(unknown)}': choose among {', '.join(VARIANTS)}.")
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
    names = [name for name in VARIANTS if name in options.variants and name not in left_out]
    settings = {name: (*base, *VARIANTS[name][1]) for name in names}
    for chosen in settings.values():
        override(preset(options.preset), list(chosen))
    own = options.expert == "own" or (options.expert == "auto" and find_expert(subject) != "syncnet")
    return Plan(settings, left_out, trainer, folder / EVALUATION_EXPERT if own else None)


def ablate(
    subject_folder: Path,
    folder: Path,
    options: AblationConfig,
    devices: Sequence[str],
    *,
    run: Runner | None = None,
    log: Callable[[str], Any] = print,
) -> Ablation:
    """Train and score every variant; finished parts of an earlier run are reused, interrupted ones resumed.

    Args:
        folder: gets a file and a folder for each variant.
        devices: each works on one variant at a time, in a process of its own.
        run: runs a command; None: as a process.
        log: called with a line of progress.

    Raises:
        UserError: something cannot be used, or a variant failed (the others are finished first).
    """
    subject = Subject.open(subject_folder)
    folder.mkdir(parents=True, exist_ok=True)
    plan = make_plan(subject, options, folder)
    for name, reason in plan.left_out.items():
        log(f"{VARIANTS[name][0]}: left out, because {reason}")
    for seed, path in enumerate((plan.training_expert, plan.evaluation_expert)):
        if path is not None and not path.is_file():
            log(f"{path.name}: a sync expert is trained")
            train_expert([subject], path, steps=options.expert_steps, device=devices[0], seed=seed)
    pool = WorkerPool(devices)

    def work(name: str, device: str) -> str | None:
        log_file = None if len(devices) == 1 else folder / f"{name}.log"
        return _one(name, plan, options, subject_folder, folder, device, run or pool.run, log_file, log)

    failures = [failure for failure in pool.spread(list(plan.settings), work) if failure is not None]
    if failures:
        raise UserError(f"{'; '.join(failures)}: fix the reported error and rerun; what is finished is kept.")
    reports = {name: read_report(folder / name / "report.json") for name in plan.settings}
    return Ablation(plan, reports)


def _one(
    name: str,
    plan: Plan,
    options: AblationConfig,
    subject: Path,
    folder: Path,
    device: str,
    run: Runner,
    log_file: Path | None,
    log: Callable[[str], Any],
) -> str | None:
    """Train and score one variant; returns what failed."""
    title, avatar = VARIANTS[name][0], folder / f"{name}.safetensors"
    if avatar.exists() and is_up_to_date(avatar, subject, options.preset, list(plan.settings[name])):
        log(f"{title}: {avatar.name} is kept")
    elif avatar.exists():
        return f"{avatar} was trained with other settings than this ablation's (remove it, or give another folder)"
    else:
        log(f"{title}: training on {device}")
        settings = [word for setting in plan.settings[name] for word in ("--set", setting)]
        failed = run(
            ["train", str(subject), "-o", str(avatar), "--preset", options.preset, *settings], device, log_file
        )
        if failed is not None:
            return f"the training of '{title}' failed{_where(log_file)}: {failed}"
    expert = options.expert if plan.evaluation_expert is None else str(plan.evaluation_expert)
    command = ["evaluate", str(avatar), str(subject), "-o", str(folder / name)]
    command += ["--expert", expert, "--emotion-model", options.emotion_model, "--lpips", options.lpips]
    command += [] if options.frames is None else ["--frames", str(options.frames)]
    failed = run(command, device, log_file)
    return None if failed is None else f"the evaluation of '{title}' failed{_where(log_file)}: {failed}"


def _where(log_file: Path | None) -> str:
    return "" if log_file is None else f" (see {log_file})"
