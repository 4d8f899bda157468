"""Look over a subject folder and say what is missing or odd."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image, UnidentifiedImageError

from emotalking.errors import UserError
from emotalking.subject.files import SubjectFiles
from emotalking.subject.layouts import MODEL_AUS
from emotalking.subject.subject import Subject

ROTATION_TOLERANCE = 1e-3
"""Largest deviation of R R^T from the identity that rounding in a JSON file explains, with room."""


def validate(path: str | Path) -> list[str]:
    """Findings about a subject folder, each one sentence; an empty list means that nothing is missing or odd.

    Args:
        path: the folder; one that TalkingGaussian's scripts wrote is fine.
    """
    try:
        subject = Subject.open(path)
    except UserError as error:
        return [str(error)]
    findings: list[str] = []
    checks = (_cameras, _frame_files, _image_sizes, _landmarks, _tables, _audio, _manifest)
    for check in checks:
        try:
            findings += check(subject)
        except UserError as error:
            findings.append(str(error))
    return findings


def _cameras(subject: Subject) -> list[str]:
    findings = []
    rotations = subject.viewmats[:, :3, :3].astype(np.float64)
    errors = np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3)).max((1, 2))
    bad = np.flatnonzero((errors > ROTATION_TOLERANCE) | (np.linalg.det(rotations) < 0))
    if len(bad):
        findings.append(f"{len(bad)} cameras are no rotations (first: frame {bad[0]}).")
    if len(subject.val_indices) == 0:
        findings.append("transforms_val.json lists no frame, so nothing can be evaluated.")
    depth = (subject.viewmats @ np.array([0, 0, 0, 1], np.float32))[:, 2]
    if (depth <= 0).any():
        findings.append(f"The head's origin lies behind the camera in {int((depth <= 0).sum())} frames.")
    return findings


def _frame_files(subject: Subject) -> list[str]:
    files = subject.files
    families: tuple[tuple[str, Callable[[int], Path]], ...] = (
        ("ori_imgs/*.jpg", files.original),
        ("gt_imgs/*.jpg", files.target),
        ("torso_imgs/*.png", files.torso),
        ("parsing/*.png", files.parsing),
        ("teeth_mask/*.npy", files.teeth),
        ("ori_imgs/*.lms", files.ibug_landmarks),
    )
    findings = []
    for name, path_of in families:
        missing = [i for i in range(subject.num_frames) if not path_of(i).exists()]
        if missing:
            findings.append(f"{name}: {len(missing)} of {subject.num_frames} files are missing (first: {missing[0]}).")
    return findings


def _image_sizes(subject: Subject) -> list[str]:
    """Headers only, so that a long clip is checked in seconds."""
    findings = []
    for path_of in (subject.files.original, subject.files.target, subject.files.torso, subject.files.parsing):
        for index in range(subject.num_frames):
            path = path_of(index)
            if not path.exists():
                continue
            try:
                with Image.open(path) as image:
                    size = image.size
            except (UnidentifiedImageError, OSError):
                findings.append(f"{path} is no readable image.")
                break
            if size != (subject.width, subject.height):
                findings.append(f"{path} measures {size}, bc.jpg {(subject.width, subject.height)} (width, height).")
                break
    return findings


def _landmarks(subject: Subject) -> list[str]:
    track = subject.landmarks
    findings = []
    lost = int((~track.detected).sum())
    if lost:
        findings.append(f"No face was found in {lost} of {subject.num_frames} frames.")
    points = track.points[track.detected]
    if not np.isfinite(points).all():
        findings.append("The landmarks of frames marked as detected hold values that are not finite.")
    return findings


def _tables(subject: Subject) -> list[str]:
    findings = []
    for name in (*MODEL_AUS, "AU25"):
        values = subject.au(name)
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 5:
            findings.append(f"au.csv: {name}_r leaves the range 0..5.")
    affect = subject.valence_arousal
    if affect is not None and (not np.isfinite(affect).all() or np.abs(affect).max() > 1):
        findings.append("va.csv: valence or arousal leaves the range -1..1.")
    return findings


def _audio(subject: Subject) -> list[str]:
    files: SubjectFiles = subject.files
    findings = []
    names = sorted(p.stem.removeprefix("aud_") for p in files.root.glob("aud_*.npy"))
    if not names and files.unnamed_audio_features.exists():
        names = ["ds"]
    if not names:
        findings.append("There are no audio features (aud_*.npy).")
    for name in names:
        try:
            if not np.isfinite(subject.audio_features(name)).all():
                findings.append(f"aud_{name}.npy holds values that are not finite.")
        except UserError as error:
            findings.append(str(error))
    if not files.audio.exists():
        return [*findings, "aud.wav is missing, so the result cannot be heard or scored for lip sync."]
    try:
        info = soundfile.info(files.audio)
    except soundfile.LibsndfileError:
        return [*findings, "aud.wav is no readable sound file."]
    if info.samplerate != 16000:
        findings.append(f"aud.wav has {info.samplerate} Hz instead of 16000.")
    seconds = float(subject.num_frames / subject.fps)
    if abs(info.duration - seconds) > 0.5:
        findings.append(f"aud.wav lasts {info.duration:.2f} s, the frames {seconds:.2f} s.")
    return findings


def _manifest(subject: Subject) -> list[str]:
    if subject.manifest:
        return []
    return [f"There is no subject.json: the frame rate is taken to be {subject.fps} frames a second."]
