"""How well the head poses of a clip agree: held-out frames against the training frame of the most similar pose.

    python benchmarks/poses.py SUBJECT ... [--frames 40] [--name poses]

The training frame is moved by the path, as if all of the head were a plane at one depth (the best of several), and
compared with the held-out frame where both show hair, and where both show skin; brightness that differs is taken off.
Poses are those of the landmarks and the optical flow that `prepare` left in the folder, before and after skin, and
skin and hair, were followed from keyframes.
"""

import json
import time
from typing import Any

import cv2
import numpy as np
from _report import arguments, write

from emotalking.data import Subject
from emotalking.data.labels import Label, mask_of
from emotalking.io.arrays import load_array
from emotalking.preprocess.parsing.parser import SelfieSegmentation
from emotalking.preprocess.pose.keyframes import choose_keyframes, follow_keyframes
from emotalking.preprocess.pose.scalp import find_scalp
from emotalking.preprocess.pose.solver import refine_pose, solve_pose
from emotalking.preprocess.pose.track import PoseTrack, project
from emotalking.preprocess.tracking import PointFlow

KEYFRAMES = 24
DEPTHS = (0.0, 0.02, 0.04, 0.06)
"""Depths of the plane in the head frame, world units."""
APART = 25
"""Frames that lie between a held-out frame and its training frame, at least."""
HALF_PIXEL = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])


def solved(subject: Subject) -> tuple[dict[str, PoseTrack], dict[str, float]]:
    """The paths before and after keyframes, of skin alone and of hair too, and seconds of processor time."""
    work, layout, size = subject.files.root / ".capture", subject.landmarks.layout, (subject.height, subject.width)
    raw = load_array(work / "points.npy").astype(np.float64)
    points, rigid = raw[..., :2], list(layout.rigid)
    flow = PointFlow(load_array(work / "flow.npy").astype(np.float64), load_array(work / "flow_valid.npy"))
    fps, began = float(subject.fps), time.process_time()
    before = solve_pose(points, raw[..., 2], layout, size, fps, flow)
    seconds = {"solve": time.process_time() - began}
    found = np.asarray(np.isfinite(raw).all((1, 2)))
    face_px = float(np.median(np.ptp(points[found, :, 1], axis=1)))
    path = project(before.shape[rigid], before.viewmats, before.focal, size)
    poses = {"landmarks": before}
    keys, links = choose_keyframes(path, found, KEYFRAMES)
    for name in ("skin", "skin and hair"):
        began, scalp, places = time.process_time(), None, path
        if name != "skin":
            scalp = find_scalp(subject.original, keys, SelfieSegmentation(), before, layout, size, face_px)
            every = np.concatenate([before.shape[rigid], scalp.places])
            places = scalp.begun(project(every, before.viewmats, before.focal, size))
        frames = map(subject.original, range(subject.num_frames))
        tracks = follow_keyframes(frames, subject.original, places, found, links, face_px)
        poses[name] = refine_pose(before, tracks, points, layout, size, fps, flow, scalp=scalp)
        seconds[name] = time.process_time() - began
    return poses, seconds


def homography(pose: PoseTrack, index: int, depth: float, size: tuple[int, int]) -> np.ndarray:
    """From the plane of the head frame at ``depth`` to pixels of frame ``index``."""
    K = np.array([[pose.focal, 0, size[0] / 2], [0, pose.focal, size[1] / 2], [0, 0, 1.0]])
    view = pose.viewmats[index]
    return K @ np.stack([view[:3, 0], view[:3, 1], view[:3, 2] * depth + view[:3, 3]], 1)


def agreement(subject: Subject, poses: dict[str, PoseTrack], frames: int) -> dict[str, dict[str, float]]:
    """PSNR [dB] of hair and of skin by path, at the depth that suits each best."""
    val, size = np.asarray(subject.val_indices), (subject.width, subject.height)
    rigid, first = list(subject.landmarks.layout.rigid), next(iter(poses.values()))
    path = project(first.shape[rigid], first.viewmats, first.focal, (subject.height, subject.width)).reshape(
        subject.num_frames, -1
    )
    train = np.asarray(subject.train_indices)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    errors: dict[tuple[str, Label, float], list[float]] = {}
    for index in val[np.linspace(0, len(val) - 1, frames).round().astype(int)].tolist():
        far = train[np.abs(train - index) > APART]
        other = int(far[np.square(path[far] - path[index]).sum(1).argmin()])
        here, there = (subject.original(each).astype(np.float32) for each in (index, other))
        labels, known = (subject.masks(each).labels for each in (index, other))
        for name, pose in poses.items():
            for depth in DEPTHS:
                move = homography(pose, index, depth, size) @ np.linalg.inv(homography(pose, other, depth, size))
                move = np.linalg.inv(HALF_PIXEL) @ move @ HALF_PIXEL
                moved = cv2.warpPerspective(there, move, size, flags=cv2.INTER_CUBIC)
                classes = cv2.warpPerspective(known, move, size, flags=cv2.INTER_NEAREST)
                for label in (Label.HAIR, Label.HEAD):
                    both = (mask_of(labels, label) & mask_of(classes, label)).astype(np.uint8)
                    difference = (here - moved)[cv2.erode(both, disc) > 0]
                    if len(difference) > 50:
                        error = float(np.square(difference - difference.mean(0)).mean())
                        errors.setdefault((name, label, depth), []).append(error)
    return {
        name: {
            key: max(10 * np.log10(255**2 / float(np.mean(errors[name, label, depth]))) for depth in DEPTHS)
            for key, label in (("hair", Label.HAIR), ("skin", Label.HEAD))
            if (name, label, DEPTHS[0]) in errors
        }
        for name in poses
    }


def main() -> None:
    """Run the benchmark."""
    args = arguments(__doc__)
    found: dict[str, Any] = {}
    for folder in args.subjects:
        subject = Subject.open(folder)
        poses, seconds = solved(subject)
        jitter = {name: pose.statistics["jitter_px"] for name, pose in poses.items()}
        row = {"size": subject.height, "frames": subject.num_frames, "psnr": agreement(subject, poses, args.frames)}
        found[folder.name] = row | {"jitter_px": jitter, "cpu_seconds": seconds}
        print(folder.name, json.dumps(found[folder.name]), flush=True)
    write(args.name, found)


if __name__ == "__main__":
    main()
