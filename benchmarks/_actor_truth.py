"""Common parts of benchmarks on the synthetic actor: its performance without capture errors, and those errors."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from emotalking.data import Subject
from emotalking.data.labels import Label
from emotalking.errors import InputError
from emotalking.preprocess.pose.track import project
from emotalking.progress import track
from emotalking.testing.actor import Actor, Performance
from emotalking.testing.actor_subject import write_actor_subject

SEED = 1
"""Seed of the performance."""
SAME_CLIP_DB = 30.0
"""A recorded frame and the actor's drawing of it agree at least so well: what lossy video leaves."""


def script_of(subject: Subject) -> Performance:
    """The performance that ``subject`` shows."""
    return Performance.generate(subject.num_frames / float(subject.fps), SEED, float(subject.fps))


def make_truth(root: Path, subject: Subject) -> Subject:
    """The performance of ``subject`` without errors of capture.

    Raises:
        InputError: ``subject`` shows something else.
    """
    if not (root / "subject.json").exists():
        script, actor = script_of(subject), Actor(size=subject.width)
        for index in subject.val_indices[::10]:
            error = (actor.render(script.states[index]).image - subject.target(int(index)).astype(np.float64)) ** 2
            if 10 * np.log10(255**2 / error.mean()) < SAME_CLIP_DB:
                raise InputError(f"{subject.files.root} does not show the actor's performance of seed {SEED}: film it.")
        layout = actor.layout
        frames = track((actor.render(state) for state in script.states), "act", subject.num_frames)
        write_actor_subject(root, frames, script.waveform, subject.fps, layout, actor.neutral_landmarks())
    return Subject.open(root)


def normals_of(subject: Subject, index: int) -> np.ndarray:
    found = subject.normals(index)
    if found is None:
        raise InputError(f"{subject.files.root} has no normal maps: prepare it with them.")
    return found


def degrees_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angle between unit vectors."""
    return np.degrees(np.arccos(np.clip((a * b).sum(-1), -1.0, 1.0)))


def pose_errors(subject: Subject, truth: Subject) -> dict[str, float]:
    """Errors of the recorded head poses against the true ones, up to the head frame, which is a convention.

    One similarity between the two head frames is fitted to the pixels of the actor's resting landmarks over the clip;
    then the rotations and these pixels are compared.
    """
    points = Actor(size=subject.width).neutral_landmarks().astype(np.float64)
    size = (subject.height, subject.width)
    seen = project(points, truth.viewmats.astype(np.float64), truth.focal, size)
    between = np.swapaxes(truth.viewmats[:, :3, :3], 1, 2) @ subject.viewmats[:, :3, :3]
    turns = Rotation.from_matrix(between)
    some = slice(None, None, 8)

    def pixels(fit: np.ndarray, frames: slice) -> np.ndarray:
        moved = np.exp(fit[6]) * Rotation.from_rotvec(fit[:3]).apply(points) + fit[3:6]
        return project(moved, subject.viewmats[frames].astype(np.float64), subject.focal, size)

    start = np.concatenate([turns.mean().inv().as_rotvec(), np.zeros(4)])
    fit = least_squares(lambda x: (pixels(x, some) - seen[some]).ravel(), start).x
    away = np.linalg.norm(pixels(fit, slice(None)) - seen, axis=-1)
    turned = np.degrees((turns.mean().inv() * turns).magnitude())
    return {
        "rotation_mean_deg": float(turned.mean()),
        "rotation_median_deg": float(np.median(turned)),
        "rotation_max_deg": float(turned.max()),
        "landmarks_mean_px": float(away.mean()),
        "focal_ratio_to_true": float(subject.focal / truth.focal),
    }


def given(prepared: Subject, truth: Subject) -> dict[str, Any]:
    """Errors of training inputs against the truth: normals and valence/arousal of the held-out frames, all poses."""
    angles = []
    for index in map(int, prepared.val_indices):
        own, true = normals_of(prepared, index), normals_of(truth, index)
        seen = own.any(-1) & (truth.masks(index).labels == Label.HEAD)
        angles.append(degrees_between(own, true)[seen])
    flat = np.concatenate(angles)
    normals = {"normal_mean": float(flat.mean()), "normal_median": float(np.median(flat))}
    own, true = prepared.valence_arousal, truth.valence_arousal
    assert own is not None and true is not None
    emotion = {
        f"{name}_r": float(np.corrcoef(own[:, k], true[:, k])[0, 1]) for k, name in enumerate(("valence", "arousal"))
    }
    return {"normals": normals, "poses": pose_errors(prepared, truth), "emotion": emotion}
