"""From a clip to a subject folder (paper-spec sections 1 and 2): the whole capture, step by step, resumable.

A step is a function of the :class:`Job`: it makes its files and returns what ``subject.json`` records of it. It is run
by :func:`_run`, which names the steps that it builds on and the settings that its product depends on; a second run
skips what is finished. Cameras are written last, so that a half-made folder is never taken for a subject.
"""

from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from emotalking.capture import action_units as aus
from emotalking.capture.job import FPS, Job, PrepareConfig
from emotalking.capture.landmarks import bridge, check_faces, find_framing, open_provider, steady, track_landmarks
from emotalking.capture.layers import draw_layers, make_background, make_masks
from emotalking.capture.normals import make_normals
from emotalking.capture.pose import project, solve_pose
from emotalking.capture.steps import file_hash
from emotalking.capture.store import save_pose, save_track
from emotalking.capture.video import SHORTEST_S, read_frames
from emotalking.emotion.estimator import LandmarkEmotion
from emotalking.errors import UserError
from emotalking.progress import track
from emotalking.speech.audio import load_audio
from emotalking.speech.features import audio_features
from emotalking.subject import Subject, write

__all__ = ["PrepareConfig", "prepare"]


def prepare(clip: str | Path, out: str | Path, **options: Any) -> Subject:
    """Make the subject folder ``out`` of ``clip``; a folder that an earlier run began is finished.

    Args:
        clip: one person talking to the camera, two seconds or longer, with sound.
        out: folder, new or made by an earlier run from the same clip.
        options: fields of :class:`PrepareConfig`.

    Raises:
        UserError: if the clip cannot be used (no video, no sound, cut short, no face, two faces, too short), or if
            ``out`` holds something else.
    """
    config = PrepareConfig(**options)
    job = Job(Path(clip), Path(out), config)
    _run(job)
    _finish(job)
    return Subject.open(out)


def _run(job: Job) -> None:
    """All steps in order: name, function, what it builds on, settings, and whether its files are there."""
    config, files, done = job.config, job.files, job.steps.run
    done("framing", _frame, job, settings=config.size)
    done("landmarks", _landmarks, job, ["framing"], _hash(config.task_model), lambda: _has_landmarks(job))
    done("audio", _audio, job, ["landmarks"], None, files.audio.exists)
    done("pose", _pose, job, ["landmarks"], asdict(config.pose), lambda: _has_pose(job))
    done("masks", _masks, job, ["pose"], None, lambda: job.has_last(files.parsing, files.teeth))
    done("background", _background, job, ["masks"], None, files.background.exists)
    done("layers", _layers, job, ["background"], None, lambda: job.has_last(files.target, files.torso))
    if config.normals != "none":
        done("normals", _normals, job, ["masks"], config.normals, lambda: job.has_last(files.normals))
    done("action units", _action_units, job, ["pose"], _hash(config.action_units), files.action_units.exists)
    done("emotion", _emotion, job, ["pose"], None, files.valence_arousal.exists)
    done("audio features", _features, job, ["audio"], "mel", files.audio_features("mel").exists)


def _hash(path: str | Path | None) -> str | None:
    """Stands for the content of a file among a step's settings; a missing file is for the step to complain about."""
    return None if path is None else file_hash(Path(path)) if Path(path).is_file() else str(path)


def _frame(job: Job) -> dict[str, Any]:
    seconds = job.config.limit_seconds or job.info.seconds or 60.0
    rate = Fraction(24 / seconds).limit_denominator(1000)
    rate = min(max(rate, Fraction(1, 4)), Fraction(5))
    images = read_frames(job.clip, rate, limit_seconds=job.config.limit_seconds)
    frames = ((float(i / rate), image) for i, image in enumerate(images))
    return {"square": asdict(find_framing(job.info, frames, job.config.size))}


def _landmarks(job: Job) -> dict[str, Any]:
    _drop_frames(job)
    expected = None if job.info.seconds is None else round(job.info.seconds * FPS)
    if job.config.limit_seconds is not None:
        expected = int(job.config.limit_seconds * FPS)
    provider = open_provider(job.config.task_model)
    try:
        frames = track(job.read(), "landmarks", expected)
        found = track_landmarks(frames, provider, lambda i, image: write.write_original(job.files.root, i, image))
    finally:
        provider.close()
    count = len(found.points)
    if count < SHORTEST_S * FPS:
        raise UserError(f"{job.clip} lasts {count / FPS:.1f} s; give a clip of at least {SHORTEST_S:.0f} s.")
    check_faces(found.detected, job.clip, FPS)
    save_track(job.track_file, found)
    lost = np.flatnonzero(~found.detected).tolist()
    return {"provider": found.provider, "frames": count, "frames_without_face": lost}


def _has_landmarks(job: Job) -> bool:
    return job.track_file.exists() and job.files.original(0).exists()


def _drop_frames(job: Job) -> None:
    """Forget an earlier run's frames: a shorter one must not leave the longer one's tail behind."""
    files = job.files
    every = (files.original, files.ibug_landmarks, files.parsing, files.teeth, files.target, files.torso, files.normals)
    for name in every:
        example = name(0)
        for path in example.parent.glob(f"*{example.suffix}"):
            if path.stem.isdigit():
                path.unlink()


def _audio(job: Job) -> dict[str, Any]:
    samples = load_audio(job.clip)
    wanted = round(job.count * 16000 / FPS)
    samples = np.pad(samples[:wanted], (0, max(wanted - len(samples), 0)))
    write.write_audio(job.files.root, samples)
    return {"rate_hz": 16000}


def _pose(job: Job) -> dict[str, Any]:
    found = job.track()
    points, depth = found.points[..., :2], found.points[..., 2]
    pose = solve_pose(points, depth, job.layout, job.size, FPS, found.flow, job.config.pose)
    model = project(pose.shape, pose.viewmats, pose.focal, job.size)
    calm = steady(bridge(points), model, job.layout)
    save_pose(job.pose_file, pose, calm)
    write.write_landmarks(job.files.root, calm, found.detected, pose.shape, job.layout)
    for index, row in enumerate(calm[:, list(job.layout.ibug68)]):
        write.write_ibug_landmarks(job.files.root, index, row)
    return {"provider": "bundle adjustment", "focal_px": round(pose.focal, 2)} | {
        name: round(value, 4) for name, value in pose.figures.items()
    }


def _has_pose(job: Job) -> bool:
    return job.pose_file.exists() and job.files.landmarks.exists() and job.has_last(job.files.ibug_landmarks)


def _masks(job: Job) -> dict[str, Any]:
    return make_masks(job.files, job.read(), job.pose()[1], job.layout)


def _background(job: Job) -> dict[str, Any]:
    return make_background(job.files, job.read(), job.count)


def _layers(job: Job) -> dict[str, Any]:
    return draw_layers(job.files, job.read(), job.count)


def _normals(job: Job) -> dict[str, Any]:
    pose, points = job.pose()
    head = aus.head_points(points, pose.viewmats, pose.focal, pose.shape, job.size)
    return make_normals(job.files, head, pose.shape, pose.viewmats, pose.focal, job.layout)


def _action_units(job: Job) -> dict[str, Any]:
    if job.config.action_units is not None:
        values = aus.read_openface(job.config.action_units, job.count)
        write.write_action_units(job.files.root, values, FPS)
        return {"provider": "OpenFace CSV"}
    pose, points = job.pose()
    head = aus.head_points(points, pose.viewmats, pose.focal, pose.shape, job.size)
    found = job.track().detected
    write.write_action_units(job.files.root, aus.action_units(head, job.layout, FPS), FPS, found)
    return {"provider": "landmarks"}


def _emotion(job: Job) -> dict[str, Any]:
    pose, points = job.pose()
    camera = np.array([[pose.focal, 0, job.size[1] / 2], [0, pose.focal, job.size[0] / 2], [0, 0, 1]])
    estimator = LandmarkEmotion()
    values = estimator.estimate(points, pose.viewmats, camera, pose.shape, job.layout, float(FPS))
    write.write_valence_arousal(job.files.root, values)
    return {"provider": estimator.name}


def _features(job: Job) -> dict[str, Any]:
    samples = load_audio(job.files.audio)
    features = audio_features("mel").extract(samples, job.count, FPS)
    write.write_audio_features(job.files.root, "mel", features)
    return {"provider": "mel"}


def _finish(job: Job) -> None:
    """The manifest as a whole, and last of all the cameras."""
    pose = job.pose()[0]
    steps = job.manifest["steps"]
    height, width = job.size
    job.manifest |= {
        "frames": job.count,
        "width": width,
        "height": height,
        "providers": {name: record["provider"] for name, record in steps.items() if "provider" in record},
    }
    write.write_manifest(job.files.root, job.manifest)
    write.write_transforms(job.files.root, pose.viewmats, pose.focal, width, height)
