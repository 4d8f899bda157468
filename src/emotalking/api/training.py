"""From subject folders to avatar files, and to sync experts."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from emotalking.api.rendering import choose_device
from emotalking.errors import InputError
from emotalking.io.outputs import checked
from emotalking.jobs.config import JobsConfig
from emotalking.options import (
    Device,
    Faces,
    Generator,
    Input,
    OptionalInput,
    Overwrite,
    PathLike,
    Preset,
    Reads,
    Seed,
    Settings,
    SubjectFolder,
    Tensorboard,
    Writes,
)

if TYPE_CHECKING:
    from emotalking.lipsync.training import ExpertReport
    from emotalking.testing.demo import DemoResult
    from emotalking.train.many import TrainManyResult
    from emotalking.train.run import TrainResult


@checked
def train(
    subject: SubjectFolder,
    output: Annotated[PathLike, Writes("avatar")],
    *,
    preset: Preset = "fast",
    device: Device = "auto",
    settings: Settings = (),
    resume: bool = True,
    overwrite: Overwrite = False,
    tensorboard: Tensorboard = False,
    generator: Generator = "mesh",
    faces: Faces = None,
    consent: OptionalInput = None,
    command: str = "",
) -> "TrainResult":
    """Train an avatar of a subject folder.

    Args:
        subject: subject folder ('emotalking prepare'), also in TalkingGaussian's layout.
        output: avatar file to write, such as someone.safetensors.
        resume: go on from an interrupted run of the same avatar.
        consent: statement of the person shown, who agreed to what and when: a file (with its detached signature beside
            it: .sig, .asc, .p7s or .minisig, if there is one) or a sentence. It is stored in the avatar, and its
            SHA-256 in what is rendered.
        command: stored in avatar and record, as what made them.

    Raises:
        InputError: subject, preset, setting, device or generator cannot be used, or tensorboardX is missing.
    """
    if Path(output).is_dir():
        raise InputError(f"{output} is a folder: give the name of an avatar file, such as someone.safetensors.")
    from emotalking.provenance.consent import read_consent
    from emotalking.train.run import MESH_WARP
    from emotalking.train.run import train as run

    agreed = None if consent is None else read_consent(consent)
    chosen, choice = choose_device(device), MESH_WARP
    if generator != "mesh" or faces is not None:
        from emotalking.faces.generators import choose_generator

        choice = choose_generator(generator, Path(subject), None if faces is None else Path(faces), chosen)
    return run(subject, output, preset, chosen, list(settings), resume, tensorboard, choice, command, agreed)


@checked
def train_many(
    subjects: Annotated[Sequence[PathLike], Reads()],
    output: Annotated[PathLike, Writes("avatars")],
    jobs: JobsConfig = JobsConfig(),
    *,
    preset: Preset = "fast",
    device: Device = "auto",
    settings: Settings = (),
    consent: OptionalInput = None,
) -> "TrainManyResult":
    """Train avatars of many subject folders, here or on a cluster, with one page about all of them.

    Args:
        subjects: subject folders; of each, ``NAME.safetensors`` is made.
        output: folder for the avatars, their run folders and logs, and ``index.html`` about all of them. What is
            finished there, with the same settings, is kept.
        jobs: where the trainings run, and how many at once.
        consent: statements of the people shown: a folder with a file for each, such as anna.pdf for subjects/anna, or
            one file or sentence that holds for all.

    Raises:
        InputError: two subjects have one name, somebody's statement is missing, or a device, a setting or the
            cluster cannot be used. A subject that cannot be trained raises nothing: it is among the result's
            ``failures``.
    """
    from emotalking.jobs.engine import open_engine
    from emotalking.train.many import train_many as run

    with open_engine(jobs, device) as engine:
        return run([Path(subject) for subject in subjects], Path(output), preset, list(settings), engine, consent)


@checked
def training_report(run: Input, *, tensorboard: Tensorboard = False) -> Path:
    """Rebuild the training report of a run, also of one that was interrupted or still goes on.

    Args:
        run: run folder, such as someone.safetensors.run.

    Returns:
        The page, ``report.html`` in the folder.

    Raises:
        InputError: the folder holds no record of a run, or tensorboardX is missing.
    """
    from emotalking.train.callbacks.log import LOG
    from emotalking.train.callbacks.report import write_page
    from emotalking.train.callbacks.rows import read_log

    folder = Path(run)
    if tensorboard:
        from emotalking.train.callbacks.log import EventFiles

        EventFiles(folder, read_log(folder / LOG)).close()
    return write_page(folder)


@checked
def train_sync_expert(
    subjects: Annotated[Sequence[PathLike], Reads(held=True)],
    output: Annotated[PathLike | None, Writes("expert", "subjects/sync_expert.safetensors")] = None,
    *,
    steps: int | None = None,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> "ExpertReport":
    """Train a subject's personal sync expert: seconds on a GPU, about eleven minutes on a CPU core.

    Args:
        subjects: the subject's folder, then others that help.
        output: expert file to write; None: ``sync_expert.safetensors`` in the first folder.
        steps: optimizer steps; None: 600 on a GPU, 200 on a CPU.

    Raises:
        InputError: a folder cannot be used, or holds less than three seconds to learn from.
    """
    from emotalking.data import Subject
    from emotalking.lipsync.training import train_expert

    if steps is not None and steps < 1:
        raise InputError(f"steps is {steps}: give 1 or more.")
    if output is not None and Path(output).is_dir():
        raise InputError(f"{output} is a folder: give the name of a file, such as expert.safetensors.")
    opened = [Subject.open(folder) for folder in subjects]
    return train_expert(opened, output, steps=steps, device=choose_device(device), seed=seed)


@checked
def demo(output: Annotated[PathLike, Writes("demo")] = "demo", *, device: Device = "auto") -> "DemoResult":
    """Run the full pipeline on a synthetic clip.

    Args:
        output: folder for the results.
    """
    from emotalking.testing.demo import run_demo

    return run_demo(Path(output), device=device)
