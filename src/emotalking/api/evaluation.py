"""Measure avatars: evaluation, comparison, ablation, lip sync and user studies."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from emotalking.api.rendering import choose_device
from emotalking.evaluate.config import AblationConfig, EvaluateConfig
from emotalking.figures.config import FiguresConfig
from emotalking.io.outputs import checked
from emotalking.jobs.config import JobsConfig
from emotalking.options import (
    Device,
    EmotionModel,
    Expert,
    Frames,
    Input,
    Lpips,
    OptionalInput,
    Overwrite,
    PathLike,
    Provenance,
    Reads,
    SubjectFolder,
    ValenceArousal,
    Writes,
)

if TYPE_CHECKING:
    from emotalking.evaluate.ablation import Ablation
    from emotalking.evaluate.answers import Results
    from emotalking.evaluate.compare import Comparison
    from emotalking.evaluate.evaluation import Reproduction
    from emotalking.evaluate.results import Report
    from emotalking.evaluate.study import Study
    from emotalking.evaluate.study_server import StudyServer
    from emotalking.figures.run import Figures
    from emotalking.lipsync.scores import SyncScores


@checked
def evaluate(
    avatar: Input,
    subject: SubjectFolder,
    output: Annotated[PathLike, Writes("report")],
    config: EvaluateConfig = EvaluateConfig(),
    *,
    device: Device = "auto",
    command: str = "",
) -> "Report":
    """Evaluate an avatar on held-out frames: the paper's three scenarios, every metric, one report.

    Args:
        avatar: avatar file ('emotalking train').
        subject: the subject folder that it was trained on.
        output: folder for the report: JSON, tables, page and images.
        config: options.
        command: stored in the report, as what made it.

    Raises:
        InputError: avatar and subject do not belong together, or a sound, evaluation model or expert cannot be used.
    """
    from emotalking.evaluate.evaluation import evaluate as run

    chosen = choose_device(device)
    return run(Path(avatar), Path(subject), Path(output), config, device=chosen, command=command)


@checked
def reproduce(
    report: Input,
    output: Annotated[PathLike, Writes("report")],
    *,
    avatar: OptionalInput = None,
    subject: Annotated[PathLike | None, Reads(held=True)] = None,
    device: Device = "auto",
    command: str = "",
) -> "Reproduction":
    """Reproduce an evaluation from its report.json, with its options, and compare the metrics.

    Args:
        report: ``report.json`` of an evaluation.
        output: folder for the new report.
        avatar: where the avatar file is now; None: where it was then.
        subject: where the subject folder is now; None: where it was then.
        command: stored in the report, as what made it.

    Raises:
        InputError: the report, or something that it needs, cannot be used.
    """
    from emotalking.evaluate.evaluation import reproduce as run

    places = [None if path is None else Path(path) for path in (avatar, subject)]
    chosen = choose_device(device)
    return run(Path(report), Path(output), avatar=places[0], subject=places[1], device=chosen, command=command)


@checked
def compare(
    subject: SubjectFolder,
    systems: Annotated[Mapping[str, PathLike], Reads()],
    output: Annotated[PathLike, Writes("comparison")],
    *,
    start: Mapping[str, int] | None = None,
    frames: Frames = None,
    as_published: bool = False,
    audio: OptionalInput = None,
    va: ValenceArousal = None,
    expert: Expert = "auto",
    emotion_model: EmotionModel = "landmarks",
    lpips: Lpips = "auto",
    device: Device = "auto",
    command: str = "",
) -> "Comparison":
    """Compare systems' frames or videos of a subject in one table.

    Args:
        subject: subject folder that holds the recorded frames.
        systems: NAME=PATH of what to compare: avatar file, folder of frames, video, or the word recording; the first
            is what the others are tested against.
        output: folder for ``comparison.json``, ``table.md``, ``table.tex`` and ``report.html``.
        start: the subject's frame that the first frame shows, of all folders and videos, or of a named one.
        as_published: also measure as TalkingGaussian's script does, on re-encoded video, and show the difference.
        audio: speech that all systems say from their first frame on and the subject was never recorded saying; only
            what needs no recorded frames is measured.
        va: valence and arousal that all systems should show with the audio.
        command: stored in the report, as what made it.

    Raises:
        InputError: a system or evaluation model cannot be used.
    """
    from emotalking.evaluate.compare_report import run_comparison
    from emotalking.evaluate.speech import unseen_of

    return run_comparison(
        Path(subject),
        {name: str(path) for name, path in systems.items()},
        Path(output),
        choose_device(device),
        start or {},
        frames,
        as_published,
        {"expert": expert, "emotion_model": emotion_model, "lpips": lpips},
        unseen_of(None if audio is None else Path(audio), va),
        command,
    )


@checked
def ablate(
    subject: SubjectFolder,
    output: Annotated[PathLike, Writes("ablation")],
    config: AblationConfig = AblationConfig(),
    jobs: JobsConfig = JobsConfig(),
    *,
    device: Device = "auto",
    command: str = "",
) -> "Ablation":
    """Train and evaluate the ablations of the paper's table 4.

    Args:
        subject: subject folder ('emotalking prepare').
        output: folder for each variant's avatar and evaluation, ``ablation.json``, ``table.md``, ``table.tex`` and
            ``report.html``, and a log of each; what is finished there is kept.
        config: options.
        jobs: where the variants are trained, and how many at once.
        command: stored in the report, as what made it.

    Raises:
        InputError: something cannot be used, or a variant failed.
    """
    from emotalking.data import Subject
    from emotalking.evaluate.ablation import ablate as run
    from emotalking.evaluate.ablation import write_ablation
    from emotalking.evaluate.provenance import provenance
    from emotalking.jobs.engine import open_engine

    with open_engine(jobs, device) as engine:
        made = run(Path(subject), Path(output), config, engine)
    write_ablation(made, config, provenance(Subject.open(subject), None, command), Path(output))
    return made


@checked
def draw_figures(
    avatar: Input,
    subject: SubjectFolder,
    output: Annotated[PathLike, Writes("figures")],
    config: FiguresConfig = FiguresConfig(),
    *,
    device: Device = "auto",
    provenance: Provenance = "on",
) -> "Figures":
    """Draw the paper's figures of an avatar: attention, normals, layers, emotions, comparisons.

    Args:
        avatar: avatar file ('emotalking train').
        subject: the subject folder that it was trained on.
        output: folder for the figures and ``index.html``; what is there and whole is kept.
        config: options.

    Raises:
        InputError: avatar and subject do not belong together, or a sound or another system's frames cannot be used.
    """
    from emotalking.progress import doing

    with doing("loading what draws"):
        from emotalking.figures.run import draw_figures as run

    return run(Path(avatar), Path(subject), Path(output), config, choose_device(device), provenance)


@checked
def measure_sync(
    clip: Input,
    *,
    expert: Annotated[str, Reads()] = "personal",
    page: Annotated[PathLike | None, Writes("html page")] = None,
    overwrite: Overwrite = False,
    device: Device = "auto",
) -> "SyncScores":
    """Measure the lip sync of a video or a subject's clip: offset, Sync-E and Sync-C.

    Args:
        clip: video with sound, or subject folder.
        expert: sync expert: personal (the subject folder's), syncnet, or an expert's file.
        page: HTML page with the offset curve to write.

    Raises:
        InputError: the clip or the expert cannot be used.
        NoFaceError: hardly a frame shows a face.
    """
    from emotalking.evaluate.sync import measure_clip, write_page

    scores = measure_clip(Path(clip), expert, choose_device(device))
    if page is not None:
        write_page(scores, Path(clip).name, Path(page))
    return scores


@checked
def make_study(
    clips: Annotated[Mapping[str, PathLike | Sequence[PathLike]], Reads()],
    output: Annotated[PathLike, Writes("study")],
    *,
    emotions: Sequence[str] = (),
    title: str = "Which video is better?",
    embed: bool = False,
) -> "Study":
    """Make a blind side-by-side user study with the paper's three questions.

    Args:
        clips: NAME=VIDEO with sound, .mp4 or .webm; the n-th clips of all systems make group n.
        output: folder of the study.
        emotions: what each group should show, once for each group; none: not told.
        title: heading of the page.
        embed: put the clips into the page, which is then one file.

    Raises:
        InputError: the clips do not make groups, or a browser cannot play one.
    """
    from emotalking.evaluate.study import make_study as run

    files = {
        name: [Path(path) for path in ([paths] if isinstance(paths, PathLike) else paths)]
        for name, paths in clips.items()
    }
    return run(files, Path(output), emotions=emotions, title=title, embed=embed)


@checked
def serve_study(study: Input, *, port: int = 8000) -> "StudyServer":
    """Serve a study's page on this machine and collect the answers.

    Args:
        study: folder of the study.
        port: TCP port of the server.

    Returns:
        A server, to be used as a context manager; ``serve_forever`` runs it.

    Raises:
        InputError: the folder holds no study, or the port is taken.
    """
    from emotalking.evaluate.study_server import StudyServer

    return StudyServer(Path(study), port)


@checked
def study_results(study: Input, *, answers: Annotated[Sequence[PathLike], Reads()] = ()) -> "Results":
    """Show the results of a study.

    Args:
        study: folder of the study.
        answers: .csv files of answers; none: those that the server collected.

    Raises:
        InputError: the folder holds no study, nobody has answered, or a file of answers cannot be read.
    """
    from emotalking.evaluate.answers import read_results

    return read_results(Path(study), [Path(path) for path in answers])
