"""The verbs of the command line as functions: prepare, train, render, evaluate, info.

Example:
    >>> from emotalking import api
    >>> api.prepare("clip.mp4", "someone")
    >>> api.train("someone", "someone.safetensors", preset="fast")
    >>> api.render("someone.safetensors", "speech.wav", "out.mp4", emotion="happy")
"""

import json
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from emotalking.data import Subject
from emotalking.data.validate import validate
from emotalking.emotion.tracks import EmotionTrack, parse_emotion
from emotalking.errors import UserError
from emotalking.models.avatar import Avatar, read_avatar_file
from emotalking.ops.devices import Device, choose_device, devices_of, pair_of
from emotalking.player.backgrounds import Background
from emotalking.player.clip import Rendered, render_clip
from emotalking.player.player import PlayableAvatar
from emotalking.tts.base import Utterance


def check(clip: str | Path) -> Any:
    """Check a clip before it is prepared; returns ``preprocess.check.verdict.Footage``.

    Raises:
        UserError: no video that can be read at all.
    """
    from emotalking.preprocess.check.clip import check_clip

    return check_clip(clip)


def prepare(clip: str | Path, out: str | Path, *, device: Device = "auto", **options: Any) -> Any:
    """Turn a clip into a subject folder; returns the ``Subject``.

    Args:
        clip: one person talking to the camera.
        out: folder to make, or to finish.
        device: where chosen networks work; "auto" takes a GPU if there is one.
        options: fields of ``preprocess.config.PrepareConfig``.

    Raises:
        UserError: the clip or an option cannot be used.
    """
    from emotalking.preprocess.config import PrepareConfig
    from emotalking.preprocess.prepare import prepare as run

    return run(Path(clip), Path(out), PrepareConfig(device=str(choose_device(device)), **options))


def import_folder(folder: str | Path, out: str | Path | None = None, clip: str | Path | None = None) -> Any:
    """Complete a folder of TalkingGaussian's or ER-NeRF's scripts; see ``preprocess.import_subject.import_folder``.

    Raises:
        UserError: the folder cannot be completed.
    """
    from emotalking.preprocess.import_subject import import_folder as run

    return run(folder, out, clip)


def preview(subject: str | Path) -> tuple[Path, Path]:
    """A video and a page to look at what a subject folder holds; see ``preprocess.preview.make_preview``.

    Returns:
        ``preview.mp4`` and ``preview.html`` in the folder.

    Raises:
        UserError: the folder lacks what is to be shown.
    """
    from emotalking.preprocess.preview import make_preview

    return make_preview(Subject.open(subject))


def train(
    subject: str | Path,
    avatar: str | Path,
    *,
    preset: str = "fast",
    device: Device = "auto",
    overrides: list[str] | None = None,
    resume: bool = True,
    tensorboard: bool = False,
    generator: str = "mesh",
    faces: str | Path | None = None,
    command: str = "",
) -> Any:
    """Train an avatar of a subject folder; returns ``train.run.TrainResult``.

    Args:
        subject: subject folder.
        avatar: avatar file to write.
        preset: "tiny", "fast" or "paper".
        device: "auto" takes a GPU if there is one. Of two, such as "cuda:0,cuda:1", the second trains the mouth
            stage in a process of its own, at the same time as the first the face stage; the avatar is the same.
        overrides: settings ``key=value`` with dotted keys.
        resume: go on from an interrupted run's checkpoint.
        tensorboard: write TensorBoard events into the run folder (needs tensorboardX).
        generator: of the emotional targets: "mesh" (embedded) or "paper" (StyleGAN2, EmoStyle and LipExtract, trained
            by ``faces train``).
        faces: file of the paper's generator; None: ``faces.safetensors`` in the subject folder.
        command: stored in avatar and record, as what made them.

    Raises:
        UserError: subject, preset, setting, device or generator cannot be used, or tensorboardX is missing.
    """
    if Path(avatar).is_dir():
        raise UserError(f"{avatar} is a folder: give the name of an avatar file, such as someone.safetensors.")
    from emotalking.train.run import MESH_WARP
    from emotalking.train.run import train as run

    (chosen, mouth_device), maker = pair_of(device), MESH_WARP
    if generator != "mesh" or faces is not None:
        from emotalking.faces.generators import target_maker

        maker = target_maker(generator, Path(subject), None if faces is None else Path(faces), chosen)
    return run(subject, avatar, preset, chosen, overrides, resume, tensorboard, maker, mouth_device, command)


def train_many(
    subjects: Sequence[str | Path],
    folder: str | Path,
    *,
    preset: str = "fast",
    devices: str = "auto",
    overrides: list[str] | None = None,
) -> Any:
    """Train an avatar of every subject folder, many at a time; returns ``train.many.Many``.

    Args:
        subjects: subject folders; of each, ``<name>.safetensors`` is made.
        folder: for the avatars, their run folders and logs, and ``index.html`` about all of them. What is finished
            there, with the same settings, is kept.
        preset: "tiny", "fast" or "paper".
        devices: such as "cuda:0,cuda:1", each for one subject at a time; "auto": every GPU, else the processor.
        overrides: settings ``key=value`` with dotted keys.

    Raises:
        UserError: two subjects have one name, or a device or setting cannot be. A subject that cannot be trained raises
            nothing: it is among the result's ``failures``.
    """
    from emotalking.train.many import train_many as run

    paths = [Path(subject) for subject in subjects]
    return run(paths, Path(folder), preset, overrides or [], devices_of(devices))


def report(run: str | Path, *, tensorboard: bool = False) -> Path:
    """Make the page of a training run from its record, also of one that was interrupted or still goes on.

    Args:
        run: run folder (``<avatar>.run``).
        tensorboard: make the TensorBoard events too (needs tensorboardX).

    Returns:
        The page, ``report.html`` in the folder.

    Raises:
        UserError: the folder holds no record of a run, or tensorboardX is missing.
    """
    from emotalking.train.callbacks.log import LOG, read_log
    from emotalking.train.callbacks.page import write_page

    folder = Path(run)
    if tensorboard:
        from emotalking.train.callbacks.tensorboard import EventFiles

        EventFiles(folder, read_log(folder / LOG)).close()
    return write_page(folder)


def render(
    avatar: str | Path | PlayableAvatar,
    audio: str | Path | Float[np.ndarray, " S"] | Utterance,
    video: str | Path | None = None,
    *,
    strip: str | Path | None = None,
    emotion: str | tuple[float, float] | EmotionTrack | None = None,
    device: Device = "auto",
    folder: str | Path | None = None,
    features: str | Path | None = None,
    poses: Literal["recorded", "fixed"] = "recorded",
    background: Background = None,
    paste: str | Path | None = None,
    seconds: float | None = None,
    batch: int = 8,
    overwrite: bool = False,
    vad: bool = True,
    progress: Callable[[int, int], Any] | None = None,
) -> Rendered:
    """Render an avatar speaking; see ``player.clip.render_clip`` for what is not listed here.

    Args:
        avatar: avatar file, or an avatar already loaded (``device`` then has no effect).
        audio: sound or video file, float32 mono samples at 16 kHz, or what :func:`say` said.
        video: file to write, with sound.
        emotion: a name ("happy", "happy:0.5"), "valence,arousal", a pair, or a track; None leaves it out.

    Raises:
        UserError: anything about the inputs or the outputs that cannot be.
    """
    if isinstance(emotion, str):
        emotion = EmotionTrack.from_text(emotion)
    elif isinstance(emotion, tuple):
        emotion = EmotionTrack.constant(*emotion)
    if batch < 1:
        raise UserError(f"the batch is {batch} frames: give at least 1.")
    return render_clip(
        load_avatar(avatar, choose_device(device)) if isinstance(avatar, str | Path) else avatar,
        audio,
        video,
        strip=strip,
        folder=folder,
        features=features,
        emotion=emotion,
        poses=poses,
        background=background,
        paste=paste,
        seconds=seconds,
        batch=batch,
        overwrite=overwrite,
        vad=vad,
        progress=progress,
    )


def say(
    text: str,
    path: str | Path | None = None,
    *,
    times: str | Path | None = None,
    language: str = "en",
    voice: str | None = None,
    rate: float | int = 1.0,
    speaker: str | Path = "espeak",
) -> Utterance:
    """Say ``text``, for :func:`render` or as files.

    Args:
        path: .wav file to write.
        times: .json or .TextGrid file for the times of words and sounds.
        language: tag such as "en", "en-gb", "de", "fr", "es", "zh".
        voice: one of the speaker's voices ('emotalking say --voices'); None is its own choice.
        rate: pace, 0.5 to 2.5 times normal.
        speaker: "espeak", "gtts" (needs a network), or a folder of sound files.

    Raises:
        UserError: speaker, language, voice, rate or text cannot be used, or the times are not known.
    """
    from emotalking.io.audio import save_wav
    from emotalking.tts.backends import open_synthesizer
    from emotalking.tts.times import check_ending, write_times

    if path is not None and Path(path).suffix.lower() != ".wav":
        raise UserError(f"speech cannot be written to {path}: let it end in .wav.")
    if times is not None:
        check_ending(Path(times))
    said = open_synthesizer(speaker).synthesize(text, language=language, voice=voice, rate=rate)
    if times is not None:
        write_times(times, said)
    if path is not None:
        save_wav(path, said.samples)
    return said


def evaluate(
    avatar: str | Path,
    subject: str | Path,
    folder: str | Path,
    *,
    device: Device = "auto",
    command: str | None = None,
    log: Callable[[str], Any] = print,
    **options: Any,
) -> Any:
    """Score an avatar on the held-out frames of its subject; returns ``evaluate.results.Report``.

    Args:
        avatar: avatar file.
        subject: the folder that it was trained on.
        folder: for the report: JSON, tables, page and images.
        device: "auto" takes a GPU if there is one.
        command: how it was called, for the report; None: this process's command line.
        log: told what is done.
        options: fields of ``evaluate.config.EvaluateConfig``.

    Raises:
        UserError: avatar and subject do not belong together, or a sound, evaluation model or expert cannot be used.
    """
    from emotalking.evaluate.config import EvaluateConfig
    from emotalking.evaluate.evaluation import evaluate as run

    chosen = EvaluateConfig.of(options)
    return run(
        Path(avatar), Path(subject), Path(folder), chosen, device=choose_device(device), command=command, log=log
    )


def reproduce(
    report: str | Path,
    folder: str | Path,
    *,
    avatar: str | Path | None = None,
    subject: str | Path | None = None,
    device: Device = "auto",
    log: Callable[[str], Any] = print,
) -> Any:
    """Make a report of :func:`evaluate` again from its JSON; returns ``evaluate.evaluation.Reproduction``.

    Args:
        report: ``report.json``.
        folder: for the new report.
        avatar, subject: where these lie now; None: where they lay then.

    Raises:
        UserError: the report, or something that it needs, cannot be used.
    """
    from emotalking.evaluate.evaluation import reproduce as run

    there = [None if path is None else Path(path) for path in (avatar, subject)]
    return run(Path(report), Path(folder), avatar=there[0], subject=there[1], device=choose_device(device), log=log)


def compare(
    subject: str | Path,
    systems: Mapping[str, str | Path],
    folder: str | Path,
    *,
    start: Mapping[str, int] | None = None,
    frames: int | None = None,
    as_published: bool = False,
    audio: str | Path | None = None,
    va: tuple[float, float] | None = None,
    expert: str = "auto",
    emotion_model: str = "landmarks",
    lpips: str = "auto",
    device: Device = "auto",
) -> Any:
    """Score systems on the held-out frames of a subject and write the tables; returns ``evaluate.compare.Comparison``.

    Args:
        subject: subject folder.
        systems: name to what shows the subject: avatar file, folder of frames, video, or "recording"; the first is
            what the others are tested against.
        folder: where ``comparison.json``, ``table.md``, ``table.tex`` and ``report.html`` go.
        start: the subject's frame that the first frame of a named system shows; "" for all without one of their own.
        frames: score at most so many, the first ones.
        as_published: measure on re-encoded video too, as the baseline does.
        audio: a sound that the subject never said and all systems say from their first frame on; there are no recorded
            frames then, and only what needs none is measured.
        va: valence and arousal that all systems should show with ``audio``.
        expert, emotion_model, lpips: as for :func:`evaluate`.

    Raises:
        UserError: a system or evaluation model cannot be used.
    """
    from emotalking.evaluate.compare_run import run_comparison, unseen_of

    names = {name: str(path) for name, path in systems.items()}
    models = {"expert": expert, "emotion_model": emotion_model, "lpips": lpips}
    return run_comparison(
        Path(subject),
        names,
        Path(folder),
        choose_device(device),
        start or {},
        frames,
        as_published,
        models,
        unseen_of(None if audio is None else Path(audio), va),
    )


def ablate(
    subject: str | Path,
    folder: str | Path,
    *,
    devices: str = "auto",
    command: str | None = None,
    log: Callable[[str], Any] = print,
    **options: Any,
) -> Any:
    """Train and score the ablations of the paper's table 4 and write the table.

    Args:
        subject: subject folder.
        folder: gets each variant's avatar and evaluation, ``ablation.json``, ``table.md``, ``table.tex`` and
            ``report.html``; what is finished there is kept.
        devices: such as "cuda:0,cuda:1"; "auto": every GPU, else the processor.
        command: how it was called, for the report; None: this process's command line.
        log: told what begins and what was kept.
        options: fields of ``evaluate.config.AblationConfig``.

    Returns:
        ``evaluate.ablation.Ablation`` and the ``AblationConfig``.

    Raises:
        UserError: something cannot be used, or a variant failed.
    """
    from emotalking.evaluate.ablation import ablate
    from emotalking.evaluate.ablation_report import write_ablation
    from emotalking.evaluate.config import AblationConfig
    from emotalking.evaluate.provenance import provenance

    chosen = AblationConfig(**options)
    made = ablate(Path(subject), Path(folder), chosen, devices_of(devices), log=log)
    write_ablation(made, chosen, provenance(Subject.open(subject), None, command), Path(folder))
    return made, chosen


def info(path: str | Path) -> dict[str, Any]:
    """What an avatar file or a subject folder holds, as plain values in titled sections.

    Raises:
        UserError: ``path`` is neither.
    """
    path = Path(path)
    if path.is_dir():
        return _subject_facts(path)
    if not path.exists():
        raise UserError(f"{path} does not exist: give an avatar file or a subject folder.")
    return _avatar_facts(path)


def emotion_track(
    *, name: str | None = None, va: str | None = None, track: str | Path | None = None
) -> EmotionTrack | None:
    """The emotion that at most one of three texts asks for; None if none does.

    Raises:
        UserError: more than one is given, or it is malformed.
    """
    if name is None and va is None and track is None:
        return None
    return parse_emotion(name, va, Path(track) if track is not None else None)


def load_avatar(path: str | Path, device: Device = "auto") -> Avatar:
    """Read an avatar file onto a device.

    Raises:
        UserError: the file or the device cannot be used.
    """
    return Avatar.load(path, choose_device(device))


def _avatar_facts(path: Path) -> dict[str, Any]:
    header, tensors = read_avatar_file(path)
    try:
        scene, config, metadata = (json.loads(header[key]) for key in ("scene", "config", "metadata"))
        gaussians = {branch: len(tensors[f"head.{branch}.gaussians.means"]) for branch in ("face", "mouth")}
        poses = len(tensors["scene.viewmats"])
        fps = float(Fraction(scene["fps"]))
    except (KeyError, ValueError) as error:
        raise UserError(f"the avatar file {path} does not hold what its header says: make it again.") from error
    return {
        "avatar": {
            "file": str(path),
            "size": f"{path.stat().st_size / 1e6:.1f} MB, format {header['version']}",
            "picture": f"{scene['width']} x {scene['height']}, {fps:g} frames/s",
            "Gaussians": f"{gaussians['face']} face, {gaussians['mouth']} mouth",
            "recorded poses": f"{poses} ({poses / fps:.1f} s)",
            "emotion": "yes" if any("emotion" in name for name in tensors) else "no",
            "audio features": config["audio"]["features"],
        },
        "licences": metadata.pop("licences", "not recorded in this file"),
        "provenance": metadata,
    }


def _subject_facts(path: Path) -> dict[str, Any]:
    subject = Subject.open(path)
    return {
        "subject": {
            "folder": str(path),
            "picture": f"{subject.width} x {subject.height}, {float(subject.fps):g} frames/s",
            "frames": f"{subject.num_frames} ({subject.num_frames / float(subject.fps):.1f} s)",
            "training / held out": f"{len(subject.train_indices)} / {len(subject.val_indices)}",
            "focal length": f"{subject.focal:.0f} px",
        },
        "provenance": subject.manifest or "none (no subject.json: another program wrote this folder)",
        "findings": [str(finding) for finding in validate(path)],
    }
