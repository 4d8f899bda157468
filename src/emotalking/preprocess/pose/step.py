"""The step "pose": the head's path, and the landmarks made steady along it."""

from functools import cache
from typing import Any

import numpy as np
from jaxtyping import UInt8

from emotalking.data import writer as write
from emotalking.io.images import read_image
from emotalking.preprocess.action_units import head_points
from emotalking.preprocess.job import Job, build, chunks
from emotalking.preprocess.parsing.parser import SelfieSegmentation
from emotalking.preprocess.pose.keyframes import choose_keyframes, follow_keyframes
from emotalking.preprocess.pose.scalp import find_scalp
from emotalking.preprocess.pose.solver import follow_pose, refine_pose, solve_pose
from emotalking.preprocess.pose.track import PoseTrack, project
from emotalking.preprocess.smoothing import steady
from emotalking.preprocess.tracking import LONGEST_GAP_S, RawTrack
from emotalking.progress import track


def make_pose(job: Job) -> dict[str, Any]:
    """Solve the path, and write it and the landmarks."""
    found = job.track()
    pose = _solved(job, found)
    points = found.points[..., :2]
    with build(job.points_file, points.shape) as calm, build(job.head_file, found.points.shape) as head:
        # Gaps of up to a second are bridged, and the filters use a few frames around.
        for wide, inner in chunks(job.count, margin=int(2 * LONGEST_GAP_S * job.fps) + 16):
            views = pose.viewmats[wide]
            model = project(pose.shape, views, pose.focal, job.size)
            here = steady(points[wide], model, job.layout, pose.statistics["noise_px"], float(job.fps))
            calm[wide][inner] = here[inner]
            head[wide][inner] = head_points(here, views, pose.focal, pose.shape, job.size)[inner]
    job.save_pose(pose)
    calm = job.points()
    write.write_landmarks(job.files.root, calm, found.detected, pose.shape, job.layout)
    for index, row in enumerate(calm[:, list(job.layout.ibug68)]):
        write.write_ibug_landmarks(job.files.root, index, row)
    return {"provider": "bundle adjustment", "focal_px": round(pose.focal, 2)} | {
        name: round(value, 4) for name, value in pose.statistics.items()
    }


def has_pose(job: Job) -> bool:
    """True if the files of :func:`make_pose` are there."""
    return (job.work / "pose.json").exists() and job.files.landmarks.exists() and job.has_all(job.files.ibug_landmarks)


def _solved(job: Job, found: RawTrack) -> PoseTrack:
    """The path, corrected by what keyframes show of face, hair and ears."""
    points, depth = found.points[..., :2], found.points[..., 2]
    more = float(job.fps), found.flow, job.config.pose
    if job.person is None:
        pose = solve_pose(points, depth, job.layout, job.size, *more)
    else:
        known = job.person.shape, job.person.focal_ratio * job.size[1]
        pose = follow_pose(points, depth, job.layout, job.size, *known, *more)
    if not job.config.pose.keyframes:
        return pose
    face = pose.shape[list(job.layout.rigid)]
    face_px = float(np.nanmedian(np.ptp(found.points[found.detected][::10, :, 1], axis=1)))

    @cache
    def keyframe(index: int) -> UInt8[np.ndarray, "H W 3"]:
        return read_image(job.files.original(index))

    usable, path = found.detected, project(face, pose.viewmats, pose.focal, job.size)
    keys, links = choose_keyframes(path, usable, job.config.pose.keyframes)
    scalp = find_scalp(keyframe, keys, SelfieSegmentation(), pose, job.layout, job.size, face_px)
    path = scalp.begun(project(np.concatenate([face, scalp.places]), pose.viewmats, pose.focal, job.size))
    tracks = follow_keyframes(track(job.frames(), "keyframes", job.count), keyframe, path, usable, links, face_px)
    return refine_pose(pose, tracks, points, job.layout, job.size, *more, scalp=scalp)
