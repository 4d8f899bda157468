"""Folders as TalkingGaussian's and ER-NeRF's scripts leave them, made from the actor."""

from fractions import Fraction
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from emotalking.data import Subject
from emotalking.data import writer as write
from emotalking.testing.actor.actor import Actor
from emotalking.testing.actor.performance import Performance
from emotalking.testing.actor_subject import write_actor_subject

TURN = Rotation.from_euler("xyz", [6, -2, 1], degrees=True).as_matrix()
PLACE = np.array([0.004, -0.02, 0.01])
SCALE = 1.08
"""A morphable model's head frame is another than ours: theirs = SCALE * TURN @ ours + PLACE."""


def their_viewmats(viewmats: np.ndarray) -> np.ndarray:
    """Cameras in the tracker's head frame, with the shake of a frame-by-frame tracker."""
    out = viewmats.astype(np.float64).copy()
    shake = np.random.default_rng(5).normal(0, 0.002, (len(out), 3))
    out[:, :3, :3] = out[:, :3, :3] @ TURN.T @ Rotation.from_rotvec(shake).as_matrix()
    out[:, :3, 3] = SCALE * viewmats[:, :3, 3] - out[:, :3, :3] @ PLACE
    return out


def tracker_file(path: Path, viewmats: np.ndarray, focal: float) -> None:
    """``track_params.pt``: the published tracker's angles and units (docs/paper.md 1.1), by hand."""
    opengl = np.diag([1.0, -1.0, -1.0, 1.0]) @ viewmats
    r = opengl[:, :3, :3]
    # R = Rx(a)^T Ry(b)^T Rz(c) in closed form.
    b = np.arcsin(-r[:, 0, 2])
    a = np.arctan2(r[:, 1, 2], r[:, 2, 2])
    c = np.arctan2(-r[:, 0, 1], r[:, 0, 0])
    content = {
        "id": torch.zeros(1, 100),
        "exp": torch.zeros(len(r), 79),
        "euler": torch.from_numpy(np.stack([a, b, c], 1)).float(),
        "trans": torch.from_numpy(opengl[:, :3, 3] * 10.0).float(),
        "focal": torch.tensor([focal]),
    }
    torch.save(content, path)


def features_like(ours: np.ndarray, steps: int, channels: int) -> np.ndarray:
    """Features of another kind that know as much about the sound: a fixed random map of ours."""
    rng = np.random.default_rng(2)
    mixed = ours @ rng.normal(0, 0.2, (ours.shape[2], channels))
    return mixed[:, np.arange(steps) * ours.shape[1] // steps].astype(np.float32)


def make_truth(root: Path, frames: int, size: int) -> Subject:
    """The actor with exact ground truth."""
    script, actor = Performance.generate(frames / 25, seed=3), Actor(size=size)
    return write_actor_subject(
        root,
        (actor.render(state) for state in script.states),
        script.waveform,
        Fraction(25),
        actor.layout,
        actor.neutral_landmarks(),
    )


def make_compat_folder(
    root: Path, truth: Subject, style: Literal["talkinggaussian", "ernerf"], features: Literal["ds", "hu"]
) -> Path:
    """Cameras of a morphable-model tracker, 68 landmarks, imported features, nothing of ours.

    TalkingGaussian's style has its masks and its json cameras; ER-NeRF's has masks without hair and mouth, no teeth,
    ``aud.npy``, and here only the tracker's own file for cameras.
    """
    root.mkdir()
    for name in ("ori_imgs", "gt_imgs", "torso_imgs", "bc.jpg", "aud.wav", "au.csv"):
        (root / name).symlink_to(truth.files.root / name)
    views = their_viewmats(truth.viewmats)
    tracker_file(root / "track_params.pt", views, truth.focal)
    steps, channels = {"ds": (16, 29), "hu": (2, 1024)}[features]
    values = features_like(truth.audio_features(), steps, channels)
    np.save(root / ("aud.npy" if style == "ernerf" and features == "ds" else f"aud_{features}.npy"), values)
    if style == "talkinggaussian":
        (root / "parsing").symlink_to(truth.files.root / "parsing")
        (root / "teeth_mask").symlink_to(truth.files.root / "teeth_mask")
        write.write_transforms(root, views, truth.focal, truth.width, truth.height)
    else:
        _ernerf_masks(truth, root)
    return root


def _ernerf_masks(truth: Subject, root: Path) -> None:
    """Hair and mouth are head; no teeth."""
    (root / "parsing").mkdir()
    for i in range(truth.num_frames):
        image = cv2.imread(str(truth.files.parsing(i)))
        inside = (image == 0).all(-1) | (image == 100).all(-1)
        image[inside] = (255, 0, 0)
        cv2.imwrite(str(root / "parsing" / f"{i}.png"), image)
