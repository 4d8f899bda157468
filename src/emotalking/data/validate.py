"""Validation of a subject folder: what is missing or unusual in its cameras, frames, tables and sound."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
from jaxtyping import Bool, Float

from emotalking.data.audio_features import AUDIO_FEATURES, DEFAULT_FEATURE, audio_feature
from emotalking.data.blink import AU45_NO_BLINK
from emotalking.data.compat import PROGRAMS, compat_findings
from emotalking.data.files import SubjectFiles
from emotalking.data.findings import (
    Finding,
    Severity,
    frame_files,
    image_contents,
    image_sizes,
    ranges,
    repeated_frames,
)
from emotalking.data.layouts import EYE_DISTANCE, IBUG68, MODEL_AUS
from emotalking.data.readers import read_cameras, read_table
from emotalking.data.subject import Subject
from emotalking.errors import InputError
from emotalking.io.arrays import load_array
from emotalking.io.reading import reading

ROTATION_TOLERANCE = 1e-3
"""Largest deviation of R R^T from the identity that rounding in a JSON file explains, with room."""
MOST_ODD = 0.2
"""Share of frames in which a direction may seem wrong (a profile, a lost landmark) before it is reported."""
_CAMERAS = "transforms_*.json"
_NEEDED = "prepare the clip again or copy the file there"
_IMPORT = "'emotalking import' makes it"
_ORDER = ("error", "warning", "note")


def validate(path: str | Path, compat: str | None = None) -> list[Finding]:
    """Findings about a subject folder, worst first; an empty list for a complete, valid folder.

    Args:
        path: the folder; one that TalkingGaussian's or ER-NeRF's scripts wrote is fine.
        compat: "talkinggaussian" or "ernerf" checks for that program's loader; None: no such check.

    Raises:
        InputError: no such program.
    """
    if compat is not None and compat not in PROGRAMS:
        raise InputError(f"compat is '{compat}': choose one of {', '.join(PROGRAMS)}.")
    files = SubjectFiles(Path(path))
    if not files.root.is_dir():
        return [Finding("error", str(files.root), "no such folder", "make one with 'emotalking prepare'")]
    vital = (files.transforms("train"), files.transforms("val"), files.background)
    tracked = (files.root / "track_params.pt").exists()
    remedy = "'emotalking import' makes them from track_params.pt" if tracked else _NEEDED
    found = [Finding("error", file.name, "missing", remedy) for file in vital if not file.exists()]
    if all(files.transforms(split).exists() for split in ("train", "val")):
        found += _run(_CAMERAS, lambda: _numbering(files))
    try:
        subject = Subject.open(path)
    except InputError as error:
        if not any(finding.severity == "error" for finding in found):
            found.append(_finding("the folder", error))
        return sorted(found, key=_badness)
    checks: dict[str, Callable[[Subject], Iterable[Finding]]] = {
        _CAMERAS: _cameras,
        "the frames": frame_files,
        "the images": image_sizes,
        "the masks": image_contents,
        "ori_imgs": repeated_frames,
        "the landmarks": _landmarks,
        "au.csv": _action_units,
        "va.csv": _emotion,
        "aud_*.npy": _features,
        "aud.wav": _sound,
        "subject.json": _record,
        "expressions": _expressions,
    }
    if compat is not None:
        checks = {_CAMERAS: _cameras, "the images": image_sizes, "aud.wav": _sound}
        checks[compat] = partial(compat_findings, program=compat)
    for where, check in checks.items():
        found += _run(where, partial(check, subject))
    # Several checks may report the same missing file.
    return sorted(dict.fromkeys(found), key=_badness)


def subject_facts(path: Path) -> dict[str, object]:
    """Size, splits, provenance and findings of a subject folder, as plain values in titled sections.

    Raises:
        InputError: the folder is no subject folder.
    """
    subject = Subject.open(path)
    return {
        "subject": {
            "folder": str(path),
            "image": f"{subject.width} x {subject.height}, {float(subject.fps):g} fps",
            "frames": f"{subject.num_frames} ({subject.num_frames / float(subject.fps):.1f} s)",
            "training / held-out": f"{len(subject.train_indices)} / {len(subject.val_indices)}",
            "focal length": f"{subject.focal:.0f} px",
        },
        **({"expressions": _shown(subject)} if subject.expressions else {}),
        "provenance": subject.manifest or "none (no subject.json: another program wrote this folder)",
        "findings": [str(finding) for finding in validate(path)],
    }


def _shown(subject: Subject) -> dict[str, str]:
    """Length and mean emotion of each clip of expressions."""
    rows = {}
    for name, clip in subject.expressions.items():
        seconds = clip.num_frames / float(clip.fps)
        read = "no emotion read"
        if clip.read_emotion is not None:
            valence, arousal = clip.read_emotion.mean(0)
            read = f"valence {valence:+.2f}, arousal {arousal:+.2f} from neutral"
        rows[name] = f"{clip.num_frames} frames ({seconds:.1f} s), {clip.width} x {clip.height}, {read}"
    return rows


def _run(where: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """Run a check; an unusable file becomes its only finding."""
    try:
        return list(check())
    except InputError as error:
        return [_finding(where, error)]


def _finding(where: str, error: InputError) -> Finding:
    what, _, remedy = str(error).rpartition(": ")
    return Finding("error", where, what or str(error), remedy if what else _NEEDED)


def _badness(finding: Finding) -> int:
    return _ORDER.index(finding.severity)


def _numbering(files: SubjectFiles) -> Iterator[Finding]:
    """Frame numbers of both splits: gaps, repetitions, frames that train *and* validate.

    Raises:
        InputError: if a transforms file is missing or malformed.
    """
    train, train_focal, _ = read_cameras(files.transforms("train"))
    val, val_focal, _ = read_cameras(files.transforms("val"))
    if both := set(train) & set(val):
        what = f"{len(both)} frames train and validate at once ({ranges(both)})"
        yield Finding("error", _CAMERAS, what, "list each in one file")
    for name, ids in (("train", train), ("val", val)):
        twice = [i for i in set(ids) if ids.count(i) > 1] if len(set(ids)) < len(ids) else []
        if twice:
            what = f"transforms_{name}.json lists frames twice ({ranges(twice)})"
            yield Finding("error", _CAMERAS, what, "list each frame once")
    known = set(train) | set(val)
    gaps = set(range(max(known, default=-1) + 1)) - known
    if gaps:
        what = f"{len(gaps)} frame numbers are missing ({ranges(gaps)})"
        yield Finding("error", _CAMERAS, what, "renumber the frames 0..N-1")
    if not train:
        yield Finding("error", _CAMERAS, "transforms_train.json lists no frame", "write the cameras again")
    if not val:
        what = "transforms_val.json lists no frame, so nothing can be evaluated"
        yield Finding("warning", _CAMERAS, what, "hold out the last 1/11")
    if val and train_focal != val_focal:
        what = f"two focal lengths, {train_focal:g} and {val_focal:g} px"
        yield Finding("warning", _CAMERAS, what, "the one of transforms_train.json is used: track the clip with one")


def _cameras(subject: Subject) -> Iterator[Finding]:
    """Matrices that are no rotations, and a head that is not where the landmarks are."""
    rotations = subject.viewmats[:, :3, :3].astype(np.float64)
    errors = np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3)).max((1, 2))
    bad = np.flatnonzero((errors > ROTATION_TOLERANCE) | (np.linalg.det(rotations) < 0))
    if len(bad):
        what = f"{len(bad)} matrices are no rotations (frames {ranges(bad)})"
        yield Finding("error", _CAMERAS, what, "track these frames again")
    if not 0.7 < subject.focal / subject.width < 8:
        what = f"focal length of {subject.focal:.0f} px for a width of {subject.width} px"
        yield Finding("warning", _CAMERAS, what, "1.5 to 4 widths are usual: track the clip again")
    yield from _view_of_face(subject)


def _view_of_face(subject: Subject) -> Iterator[Finding]:
    """Compare the head's axes in the cameras with the landmarks in the images."""
    axes = "write camera-to-world matrices with OpenGL axes (x right, y up, z backward), the head at the origin"
    behind = np.asarray(subject.viewmats[:, 2, 3] <= 0)
    if behind.any():
        what = f"the head is behind the camera in {int(behind.sum())} of {len(behind)} frames"
        yield Finding("error", _CAMERAS, what, axes)
        return
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
    off = np.linalg.norm(image_of(0, 0, 0.05) - points.mean(1), axis=1)
    upside_down = opposed(image_of(0, 0.05, 0) - image_of(0, -0.05, 0), upward)
    mirrored = opposed(image_of(0.03, 0, 0) - image_of(-0.03, 0, 0), eyes)
    again = "track the clip again"
    odd: tuple[tuple[np.ndarray, Severity, str, str], ...] = (
        (upside_down, "error", "the head's y axis is not up", axes),
        (mirrored, "error", "the head's x axis is mirrored", axes),
        (views[:, 2, 2] > 0, "error", "the face is turned away from the camera", axes),
        (off > np.linalg.norm(upward, axis=1), "warning", "the cameras' head is not where the face is", again),
    )
    for wrong, severity, what, remedy in odd:
        if wrong.mean() > MOST_ODD:
            yield Finding(severity, _CAMERAS, f"{what} in {int(wrong.sum())} of {len(wrong)} frames", remedy)
    scale = np.linalg.norm(eyes, axis=1) * views[:, 2, 3] / (subject.focal * EYE_DISTANCE)
    if not 0.5 < np.median(scale) < 2.0:
        what = f"the head is {np.median(scale):.2f} times as large as a head of this layout"
        remedy = f"scale the world so that the eyes are about {EYE_DISTANCE} apart (the tracker's units over 10)"
        yield Finding("error", _CAMERAS, what, remedy)


def _landmarks(subject: Subject) -> Iterator[Finding]:
    """Frames without a face, values that are not finite, faces outside the image."""
    track = subject.landmarks
    where = "landmarks.npz" if subject.files.landmarks.exists() else "ori_imgs/*.lms"
    lost = np.flatnonzero(~track.detected)
    if len(lost):
        what = f"no face in {len(lost)} of {subject.num_frames} frames ({ranges(lost)})"
        yield Finding("warning", where, what, "neighbouring frames replace them: cut long gaps out of the clip")
    middles = track.points[track.detected].mean(1)
    if (middles < 0).any() or (middles > [subject.width, subject.height]).any():
        remedy = "give pixels (x, y) of the images in ori_imgs"
        yield Finding("error", where, "faces outside the image", remedy)
    if track.shape is None:
        what = "no tracked 3-D face shape, so no emotion stage and no start on the face's surface"
        yield Finding("note", "landmarks.npz", what, _IMPORT)


def _action_units(subject: Subject) -> Iterator[Finding]:
    """Number of rows, columns, range, and at least one blink."""
    where, again = "au.csv", "compute it again"
    table = read_table(subject.files.action_units)
    rows = len(next(iter(table.values()), []))
    if rows != subject.num_frames:
        severity = "error" if rows < subject.num_frames else "note"
        remedy = "run OpenFace on the frames of ori_imgs" if severity == "error" else "the first ones are used"
        yield Finding(severity, where, f"{rows} rows for {subject.num_frames} frames", remedy)
    needed = [f"{name}_r" for name in (*MODEL_AUS, "AU25")]
    if missing := [name for name in needed if name not in table]:
        remedy = "'emotalking import' into a new folder measures them"
        yield Finding("error", where, f"no column {', '.join(missing)}", remedy)
    for name in needed:
        values = table.get(name)
        if values is None or not len(values):
            continue
        if not np.isfinite(values).all():
            yield Finding("error", where, f"{name} is not finite everywhere", again)
        elif values.min() < 0 or values.max() > 5:
            yield Finding("warning", where, f"{name} is outside 0..5", again)
    blink = table.get("AU45_r")
    if blink is not None and len(blink) and (blink <= AU45_NO_BLINK).all():
        yield Finding("warning", where, "AU45_r shows no blink", "the avatar will not blink: check the rows")
    success = table.get("success")
    if success is not None and len(success) and (failed := 1 - float(np.mean(success > 0))) > 0.05:
        what = f"{failed:.0%} of the rows are marked as failed"
        yield Finding("warning", where, what, "their values are guesses: run OpenFace again")


def _emotion(subject: Subject) -> Iterator[Finding]:
    """Presence and range of valence and arousal."""
    affect = subject.read_emotion
    if affect is None:
        yield Finding("note", "va.csv", "missing, so every frame counts as neutral", _IMPORT)
    elif not np.isfinite(affect).all() or np.abs(affect).max(initial=0.0) > 1:
        yield Finding("error", "va.csv", "valence or arousal is outside -1..1", "compute it again")


def _expressions(subject: Subject) -> Iterator[Finding]:
    """What the emotion stage would miss in the clips of expressions."""
    parent, again = subject.files.expression("_").root.parent, "prepare the clip again"
    there = sorted(path.name for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []
    for name in there:
        if name not in subject.expressions:
            yield Finding("warning", f"expressions/{name}", "is not finished", f"it is not used: {again}, or remove it")
    for name, clip in subject.expressions.items():
        found: list[Finding] = []
        for check in (_cameras, frame_files, image_sizes, _landmarks, _action_units, _emotion, _match):
            found += _run("the folder", partial(check, clip))
        unused = ("gt_imgs/*.jpg", "torso_imgs/*.png", "ori_imgs/*.lms")  # of these, training reads nothing
        for one in found:
            if one.where not in unused and one.severity != "note" and "blink" not in one.what:
                yield Finding(one.severity, f"expressions/{name}/{one.where}", one.what, one.remedy)


def _match(clip: Subject) -> Iterator[Finding]:
    if clip.colour_match is None or clip.landmarks.shape is None or clip.read_emotion is None:
        what = "is no clip of expressions that was prepared with this subject"
        yield Finding("error", "subject.json", what, "remove it, or prepare it again")


def _features(subject: Subject) -> Iterator[Finding]:
    """Every ``aud*.npy``: type, shape, length, values."""
    files, default = subject.files, audio_feature(DEFAULT_FEATURE).file_name
    paths = sorted({*files.root.glob("aud_*.npy"), *(p for p in [files.unnamed_audio_features] if p.exists())})
    for path in paths:
        yield from _feature_file(subject, path.name)
    if not paths:
        yield Finding("error", "aud_*.npy", "no audio features", f"'emotalking import' makes {default}")
    elif not files.audio_features().exists():
        what = "missing, so an avatar can only be driven by features that other programs compute"
        yield Finding("note", default, what, _IMPORT)


def _feature_file(subject: Subject, name: str) -> Iterator[Finding]:
    with reading(name, "is no numeric array", "extract the features again"):
        values = load_array(subject.files.root / name, mmap_mode="r")
    if values.ndim != 3 or values.dtype.kind != "f":
        yield Finding("error", name, f"holds {values.shape}", "give floats [frames, steps, channels]")
        return
    named = [feature for feature in AUDIO_FEATURES.values() if feature.file_name == name]
    if values.shape[1:] not in [feature.shape for feature in named or AUDIO_FEATURES.values()]:
        known = "; ".join(f"{feature.file} {list(feature.shape)}" for feature in AUDIO_FEATURES.values())
        what = f"{values.shape[1]} steps of {values.shape[2]} channels a frame"
        yield Finding("error" if named else "warning", name, what, f"known are {known}")
    if not all(np.isfinite(part).all() for part in np.array_split(values, max(1, len(values) // 1000))):
        yield Finding("error", name, "values that are not finite", "extract the features again")
    missing = subject.num_frames - len(values)
    if missing > 0:
        late = missing > 0.2 * subject.fps
        remedy = "extract them from the whole sound" if late else "the last frame is repeated"
        what = f"covers {len(values)} of {subject.num_frames} frames"
        yield Finding("error" if late else "note", name, what, remedy)
    elif -missing > max(5.0, 0.01 * subject.num_frames):
        what = f"{len(values)} rows for {subject.num_frames} frames"
        yield Finding("warning", name, what, "check that the sound begins with the first frame")


def _sound(subject: Subject) -> Iterator[Finding]:
    """``aud.wav``: rate, length, level."""
    path = subject.files.audio
    where = path.name
    if not path.exists():
        what = "missing, so the result has no audio and no lip sync score"
        yield Finding("warning", where, what, "'emotalking import' with the clip takes it from there")
        return
    try:
        info = soundfile.info(path)
        level = max((float(np.abs(block).max(initial=0)) for block in soundfile.blocks(path, 1 << 18)), default=0.0)
    except soundfile.LibsndfileError:
        yield Finding("error", where, "no readable sound file", "write 16 kHz, 16 bit")
        return
    if info.samplerate != 16000:
        yield Finding("warning", where, f"{info.samplerate} Hz instead of 16000", "convert it to 16 kHz")
    seconds = float(subject.num_frames / subject.fps)
    if abs(info.duration - seconds) > 0.5:
        what = f"lasts {info.duration:.2f} s, the frames {seconds:.2f} s at {float(subject.fps):g} frames/s"
        remedy = f"a rate of {subject.num_frames / max(info.duration, 1e-9):.2f} would fit; or cut the sound"
        yield Finding("warning", where, what, remedy)
    if level < 0.005:
        yield Finding("warning", where, "is silent", "give the speech of the clip")


def _record(subject: Subject) -> Iterator[Finding]:
    """Presence of the frame rate."""
    if "fps" not in subject.manifest:
        what = f"the frame rate is unknown: {float(subject.fps):g} frames/s is assumed"
        yield Finding("warning", "subject.json", what, "'emotalking import' writes it")
