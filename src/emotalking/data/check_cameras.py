"""Checks of a subject folder's cameras: complete, numbered without gaps, aimed at the face."""

import numpy as np
from jaxtyping import Bool, Float

from emotalking.data.files import SubjectFiles
from emotalking.data.findings import Finding, Severity, ranges
from emotalking.data.layouts import EYE_DISTANCE, IBUG68
from emotalking.data.readers import read_cameras
from emotalking.data.subject import Subject

ROTATION_TOLERANCE = 1e-3
"""Largest deviation of R R^T from the identity that rounding in a JSON file explains, with room."""
MOST_ODD = 0.2
"""Share of frames in which a direction may seem wrong (a profile, a lost landmark) before it is reported."""


def numbering(files: SubjectFiles) -> list[Finding]:
    """Frame numbers of both splits: gaps, repetitions, frames that train *and* validate.

    Raises:
        InputError: if a transforms file is missing or malformed.
    """
    train, train_focal, _ = read_cameras(files.transforms("train"))
    val, val_focal, _ = read_cameras(files.transforms("val"))
    found: list[Finding] = []

    def report(severity: Severity, what: str, remedy: str) -> None:
        found.append(Finding(severity, "transforms_*.json", what, remedy))

    both = set(train) & set(val)
    if both:
        report("error", f"{len(both)} frames train and validate at once ({ranges(both)})", "list each in one file")
    for name, ids in (("train", train), ("val", val)):
        twice = [i for i in set(ids) if ids.count(i) > 1] if len(set(ids)) < len(ids) else []
        if twice:
            report("error", f"transforms_{name}.json lists frames twice ({ranges(twice)})", "list each frame once")
    known = set(train) | set(val)
    gaps = set(range(max(known, default=-1) + 1)) - known
    if gaps or min(known, default=0) < 0:
        report("error", f"{len(gaps)} frame numbers are missing ({ranges(gaps)})", "renumber the frames 0..N-1")
    if not train:
        report("error", "transforms_train.json lists no frame", "write the cameras again")
    if not val:
        report("warning", "transforms_val.json lists no frame, so nothing can be evaluated", "hold out the last 1/11")
    if val and train_focal != val_focal:
        what = f"two focal lengths, {train_focal:g} and {val_focal:g} px"
        report("warning", what, "the one of transforms_train.json is used: track the clip with one")
    return found


def cameras(subject: Subject) -> list[Finding]:
    """Matrices that are no rotations, and a head that is not where the landmarks are."""
    found: list[Finding] = []
    rotations = subject.viewmats[:, :3, :3].astype(np.float64)
    errors = np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3)).max((1, 2))
    bad = np.flatnonzero((errors > ROTATION_TOLERANCE) | (np.linalg.det(rotations) < 0))
    if len(bad):
        what = f"{len(bad)} matrices are no rotations (frames {ranges(bad)})"
        found.append(Finding("error", "transforms_*.json", what, "track these frames again"))
    ratio = subject.focal / subject.width
    if not 0.7 < ratio < 8:
        what = f"focal length of {subject.focal:.0f} px for a width of {subject.width} px"
        found.append(Finding("warning", "transforms_*.json", what, "1.5 to 4 widths are usual: track the clip again"))
    return found + _view_of_face(subject)


def _view_of_face(subject: Subject) -> list[Finding]:
    """Compare the head's axes in the cameras with the landmarks in the images."""
    found: list[Finding] = []

    def report(wrong: Bool[np.ndarray, " F"], severity: Severity, what: str, remedy: str) -> None:
        if len(wrong) and wrong.mean() > MOST_ODD:
            where = f"{what} in {int(wrong.sum())} of {len(wrong)} frames"
            found.append(Finding(severity, "transforms_*.json", where, remedy))

    axes = "write camera-to-world matrices with OpenGL axes (x right, y up, z backward), the head at the origin"
    depth = subject.viewmats[:, 2, 3]
    behind = np.asarray(depth <= 0)
    if behind.any():
        what = f"the head is behind the camera in {int(behind.sum())} of {len(behind)} frames"
        return [Finding("error", "transforms_*.json", what, axes)]
    track = subject.landmarks
    points = track.ibug68[track.detected].astype(np.float64)
    views = subject.viewmats[track.detected].astype(np.float64)

    def image_of(*point: float | int) -> Float[np.ndarray, "F 2"]:
        p = views[:, :3, :3] @ np.array(point) + views[:, :3, 3]
        return subject.focal * p[:, :2] / p[:, 2:] + np.array([subject.width, subject.height]) / 2

    def opposed(a: np.ndarray, b: np.ndarray) -> Bool[np.ndarray, " F"]:
        """Directions more than 60 degrees apart."""
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        return np.asarray((a * b).sum(1) < 0.5 * lengths)

    right, left = IBUG68.eye_centres(points)
    eyes = left - right
    upward = points[:, 17:27].mean(1) - points[:, 8]
    report(opposed(image_of(0, 0.05, 0) - image_of(0, -0.05, 0), upward), "error", "the head's y axis is not up", axes)
    report(opposed(image_of(0.03, 0, 0) - image_of(-0.03, 0, 0), eyes), "error", "the head's x axis is mirrored", axes)
    report(np.asarray(views[:, 2, 2] > 0), "error", "the face is turned away from the camera", axes)
    height = np.linalg.norm(upward, axis=1)
    off = np.linalg.norm(image_of(0, 0, 0.05) - points.mean(1), axis=1)
    report(np.asarray(off > height), "warning", "the cameras' head is not where the face is", "track the clip again")
    scale = np.linalg.norm(eyes, axis=1) * views[:, 2, 3] / (subject.focal * EYE_DISTANCE)
    if len(scale) and not 0.5 < np.median(scale) < 2.0:
        what = f"the head is {np.median(scale):.2f} times as large as a head of this layout"
        remedy = f"scale the world so that the eyes are about {EYE_DISTANCE} apart (the tracker's units over 10)"
        found.append(Finding("error", "transforms_*.json", what, remedy))
    return found
