"""Checks of a subject folder's landmarks, action units, valence/arousal, sound and record."""

import numpy as np
import soundfile
from jaxtyping import Float

from emotalking.data.audio_features import AUDIO_FEATURES, DEFAULT_FEATURE, audio_feature
from emotalking.data.blink import AU45_NO_BLINK
from emotalking.data.files import SubjectFiles
from emotalking.data.findings import Finding, ranges
from emotalking.data.layouts import MODEL_AUS
from emotalking.data.readers import read_table
from emotalking.data.subject import Subject
from emotalking.io.arrays import load_array

IMPORT = "'emotalking import' makes it"


def landmarks(subject: Subject) -> list[Finding]:
    """Frames without a face, values that are not finite, faces outside the image."""
    track = subject.landmarks
    where = "landmarks.npz" if subject.files.landmarks.exists() else "ori_imgs/*.lms"
    found: list[Finding] = []
    lost = np.flatnonzero(~track.detected)
    if len(lost):
        what = f"no face in {len(lost)} of {subject.num_frames} frames ({ranges(lost)})"
        found.append(Finding("warning", where, what, "neighbouring frames replace them: cut long gaps out of the clip"))
    points = track.points[track.detected]
    if not np.isfinite(points).all():
        found.append(Finding("error", where, "values that are not finite", "'emotalking import' tracks the face again"))
    else:
        low, high = points.mean(1).min(0, initial=np.inf), points.mean(1).max(0, initial=-np.inf)
        if (low < 0).any() or (high > [subject.width, subject.height]).any():
            what = "faces outside the image"
            found.append(Finding("error", where, what, "give pixels (x, y) of the images in ori_imgs"))
    if track.shape is None:
        what = "no tracked 3-D face shape, so no emotion stage and no start on the face's surface"
        found.append(Finding("note", "landmarks.npz", what, IMPORT))
    return found


def action_units(subject: Subject) -> list[Finding]:
    """Number of rows, columns, range, and at least one blink."""
    found: list[Finding] = []
    table = read_table(subject.files.action_units)
    rows = len(next(iter(table.values()), []))
    if rows != subject.num_frames:
        severity = "error" if rows < subject.num_frames else "note"
        what = f"{rows} rows for {subject.num_frames} frames"
        remedy = "run OpenFace on the frames of ori_imgs" if severity == "error" else "the first ones are used"
        found.append(Finding(severity, "au.csv", what, remedy))
    missing = [f"{name}_r" for name in (*MODEL_AUS, "AU25") if f"{name}_r" not in table]
    if missing:
        what = f"no column {', '.join(missing)}"
        found.append(Finding("error", "au.csv", what, "'emotalking import' into a new folder measures them"))
    for name in (*MODEL_AUS, "AU25"):
        values = table.get(f"{name}_r")
        if values is None or not len(values):
            continue
        if not np.isfinite(values).all():
            found.append(Finding("error", "au.csv", f"{name}_r is not finite everywhere", "compute it again"))
        elif values.min() < 0 or values.max() > 5:
            found.append(Finding("warning", "au.csv", f"{name}_r is outside 0..5", "compute it again"))
    blink = table.get("AU45_r")
    if blink is not None and len(blink) and (blink <= AU45_NO_BLINK).all():
        found.append(Finding("warning", "au.csv", "AU45_r shows no blink", "the avatar will not blink: check the rows"))
    success = table.get("success")
    if success is not None and len(success) and (failed := 1 - float(np.mean(success > 0))) > 0.05:
        what = f"{failed:.0%} of the rows are marked as failed"
        found.append(Finding("warning", "au.csv", what, "their values are guesses: run OpenFace again"))
    return found


def emotion(subject: Subject) -> list[Finding]:
    """Presence and range of valence and arousal."""
    affect = subject.valence_arousal
    if affect is None:
        return [Finding("note", "va.csv", "missing, so every frame counts as neutral", IMPORT)]
    if not np.isfinite(affect).all() or np.abs(affect).max(initial=0.0) > 1:
        return [Finding("error", "va.csv", "valence or arousal is outside -1..1", "compute it again")]
    return []


def features(subject: Subject) -> list[Finding]:
    """Every ``aud*.npy``: type, shape, length, values."""
    files, default = subject.files, audio_feature(DEFAULT_FEATURE).file_name
    paths = sorted({*files.root.glob("aud_*.npy"), *(p for p in [files.unnamed_audio_features] if p.exists())})
    found = [finding for path in paths for finding in _feature_file(subject, path.name)]
    if not paths:
        found.append(Finding("error", "aud_*.npy", "no audio features", f"'emotalking import' makes {default}"))
    elif not files.audio_features().exists():
        what = "missing, so an avatar can only be driven by features that other programs compute"
        found.append(Finding("note", default, what, IMPORT))
    return found


def _feature_file(subject: Subject, name: str) -> list[Finding]:
    try:
        values = load_array(subject.files.root / name, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        return [Finding("error", name, f"no numeric array ({error})", "extract the features again")]
    if values.ndim != 3 or values.dtype.kind != "f":
        return [Finding("error", name, f"holds {values.shape}", "give floats [frames, steps, channels]")]
    found: list[Finding] = []
    named = [feature for feature in AUDIO_FEATURES.values() if feature.file_name == name]
    if values.shape[1:] not in [feature.shape for feature in named or AUDIO_FEATURES.values()]:
        known = "; ".join(f"{feature.file} {list(feature.shape)}" for feature in AUDIO_FEATURES.values())
        what = f"{values.shape[1]} steps of {values.shape[2]} channels a frame"
        found.append(Finding("error" if named else "warning", name, what, f"known are {known}"))
    if not all(np.isfinite(part).all() for part in np.array_split(values, max(1, len(values) // 1000))):
        found.append(Finding("error", name, "values that are not finite", "extract the features again"))
    missing = subject.num_frames - len(values)
    if missing > 0:
        late = missing > 0.2 * subject.fps
        remedy = "extract them from the whole sound" if late else "the last frame is repeated"
        what = f"covers {len(values)} of {subject.num_frames} frames"
        found.append(Finding("error" if late else "note", name, what, remedy))
    elif -missing > max(5.0, 0.01 * subject.num_frames):
        what = f"{len(values)} rows for {subject.num_frames} frames"
        found.append(Finding("warning", name, what, "check that the sound begins with the first frame"))
    return found


def sound(subject: Subject) -> list[Finding]:
    """``aud.wav``: rate, length, level."""
    path = subject.files.audio
    if not path.exists():
        what = "missing, so the result has no audio and no lip sync score"
        return [Finding("warning", "aud.wav", what, "'emotalking import' with the clip takes it from there")]
    try:
        info = soundfile.info(path)
        level = max((float(np.abs(block).max(initial=0)) for block in soundfile.blocks(path, 1 << 18)), default=0.0)
    except soundfile.LibsndfileError:
        return [Finding("error", "aud.wav", "no readable sound file", "write 16 kHz, 16 bit")]
    found: list[Finding] = []
    if info.samplerate != 16000:
        found.append(Finding("warning", "aud.wav", f"{info.samplerate} Hz instead of 16000", "convert it to 16 kHz"))
    seconds = float(subject.num_frames / subject.fps)
    if abs(info.duration - seconds) > 0.5:
        what = f"lasts {info.duration:.2f} s, the frames {seconds:.2f} s at {float(subject.fps):g} frames/s"
        remedy = f"a rate of {subject.num_frames / max(info.duration, 1e-9):.2f} would fit; or cut the sound"
        found.append(Finding("warning", "aud.wav", what, remedy))
    if level < 0.005:
        found.append(Finding("warning", "aud.wav", "is silent", "give the speech of the clip"))
    return found


def record(subject: Subject) -> list[Finding]:
    """Presence of the frame rate."""
    if "fps" in subject.manifest:
        return []
    what = f"the frame rate is unknown: {float(subject.fps):g} frames/s is assumed"
    return [Finding("warning", "subject.json", what, "'emotalking import' writes it")]


def lms_rows(files: SubjectFiles, index: int) -> Float[np.ndarray, "n m"] | None:
    """The numbers of one ``.lms`` file as its lines hold them; None if they form no table."""
    try:
        rows = [[float(word) for word in line.split()] for line in files.ibug_landmarks(index).read_text().splitlines()]
        return np.array(rows, np.float64)
    except (OSError, ValueError):
        return None
