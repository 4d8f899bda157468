"""Compatibility of a subject folder with TalkingGaussian's and ER-NeRF's loaders (docs/paper.md 1 and 14).

They read by exact names, headers and colours where our reader is lenient; what would stop them is an error here.
"""

import csv
from collections.abc import Iterator

import numpy as np

from emotalking.data.audio_features import audio_feature
from emotalking.data.files import SubjectFiles
from emotalking.data.findings import SAMPLES, Finding, families, missing_files, present, ranges
from emotalking.data.labels import LABEL_COLOURS, Label, colours_to_labels
from emotalking.data.layouts import MODEL_AUS
from emotalking.data.readers import read_json
from emotalking.data.subject import Subject
from emotalking.io.arrays import load_array
from emotalking.io.images import read_image
from emotalking.io.reading import read_text, reading

PROGRAMS = ("talkinggaussian", "ernerf")
_FEATURES = {
    "talkinggaussian": ("aud_ds.npy", "aud_hu.npy", "aud_eo.npy"),
    "ernerf": ("aud.npy", "aud_hu.npy", "aud_eo.npy"),
}
"""Names that each loader opens; the first is its default (DeepSpeech), the others need an option."""
_COLUMNS = {"talkinggaussian": (*MODEL_AUS, "AU25"), "ernerf": ("AU45",)}


def compat_findings(subject: Subject, program: str) -> Iterator[Finding]:
    """Obstacles for the loader of ``program``.

    Args:
        subject: an opened folder.
        program: one of :data:`PROGRAMS`.

    Deviation: their code cannot be run here; the rules are those of docs/paper.md 1.
    """
    files, count = subject.files, subject.num_frames
    yield from _features(files, count, _FEATURES[program])
    yield from _cameras(subject)
    yield from _columns(files, count, _COLUMNS[program])
    for name, path_of, _, remedy in families(files):
        if program == "talkinggaussian" or "teeth" not in name:
            yield from missing_files(name, present(path_of(0)), count, "error", remedy)
    yield from _contents(subject, program)


def _features(files: SubjectFiles, count: int, names: tuple[str, ...]) -> Iterator[Finding]:
    there = [name for name in names if (files.root / name).exists()]
    twin = "aud.npy" if names[0] == "aud_ds.npy" else "aud_ds.npy"
    if names[0] in there:
        yield from _shape(files, names[0], count, "ds")
    elif there:
        what = f"missing; {there[0]} is there and needs the loader's option for its kind"
        yield Finding("warning", names[0], what, "name it on its command line")
        yield from _shape(files, there[0], count, there[0].removeprefix("aud_").removesuffix(".npy"))
    elif (files.root / twin).exists():
        yield Finding("error", names[0], f"missing, but {twin} is there", f"copy {twin} to {names[0]}")
    else:
        remedy = "run its DeepSpeech script on aud.wav and put the array [frames, 16, 29] there (mel is EmoTalking's)"
        yield Finding("error", names[0], "missing", remedy)


def _shape(files: SubjectFiles, name: str, count: int, kind: str) -> Iterator[Finding]:
    feature = audio_feature(kind)
    with reading(name, "is no array", "extract the features again"):
        shape = load_array(files.root / name, mmap_mode="r").shape
    if shape[1:] != feature.shape:
        yield Finding("error", name, f"shape {list(shape)}", f"{[count, *feature.shape]} is expected")


def _cameras(subject: Subject) -> Iterator[Finding]:
    for split in ("train", "val"):
        path = subject.files.transforms(split)
        content = read_json(path)
        with reading(path, "has an entry that is malformed", "write it again"):
            missing = [key for key in ("focal_len", "cx", "cy", "frames") if key not in content]
            if any("aud_id" not in frame for frame in content.get("frames", [])):
                missing.append("frames[].aud_id")
            cx, cy = (float(content.get(key, 0)) for key in ("cx", "cy"))
        if missing:
            yield Finding("error", path.name, f"no {', '.join(missing)}", "add it: cx, cy = half the size")
        elif (cx, cy) != (subject.width / 2, subject.height / 2):
            what = f"principal point ({cx:g}, {cy:g}) is not the centre"
            yield Finding("warning", path.name, what, "it is ignored or taken for half the image's size")


def _columns(files: SubjectFiles, count: int, names: tuple[str, ...]) -> Iterator[Finding]:
    try:
        with files.action_units.open(newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        yield Finding("error", "au.csv", f"cannot be read ({error})", "run OpenFace on the frames")
        return
    header = rows[0] if rows else []
    if missing := [f'" {name}_r"' for name in names if f" {name}_r" not in header]:
        what = "no column " + ", ".join(missing)
        yield Finding("error", "au.csv", what, "OpenFace's names begin with a space: write them so")
    if len(rows) - 1 < count:
        what = f"{len(rows) - 1} rows for {count} frames"
        yield Finding("error", "au.csv", what, "its rows are taken by frame number")


def _contents(subject: Subject, program: str) -> Iterator[Finding]:
    """A sample of frames: exact colours, 68 rows of two numbers, masks of the images' size."""
    files = subject.files
    colours = []
    rows = []
    teeth = []
    hair = 0
    for index in np.linspace(0, subject.num_frames - 1, min(SAMPLES, subject.num_frames)).round().astype(int).tolist():
        if files.parsing(index).exists():
            pixels = read_image(files.parsing(index))
            labels = colours_to_labels(pixels)
            hair += int((labels == Label.HAIR).sum())
            if (pixels != LABEL_COLOURS[labels]).any():
                colours.append(index)
        if _lms_shape(files, index) not in (None, (68, 2)):
            rows.append(index)
        if program == "talkinggaussian" and files.teeth(index).exists():
            with reading(files.teeth(index), "is no mask", "compute it again"):
                mask = load_array(files.teeth(index))
            if mask.shape != (subject.height, subject.width) or mask.dtype != np.bool_:
                teeth.append(index)
    if colours:
        what = f"colours that are none of the six exactly (frames {ranges(colours)})"
        yield Finding("error", "parsing/*.png", what, "write lossless PNG, resize with nearest neighbour")
    if rows:
        yield Finding("error", "ori_imgs/*.lms", f"not 68 rows of x y (frames {ranges(rows)})", "write iBUG-68")
    if teeth:
        what = f"no bool mask of the image's size (frames {ranges(teeth)})"
        yield Finding("error", "teeth_mask/*.npy", what, "write bool [H, W]")
    if program == "ernerf" and hair:
        what = "hair has a colour of its own (black), which ER-NeRF's masks do not know"
        yield Finding("note", "parsing/*.png", what, "where it needs the head, hair is left out")


def _lms_shape(files: SubjectFiles, index: int) -> tuple[int, ...] | None:
    """Rows and columns of one ``.lms`` file; None if its lines form no table of numbers."""
    try:
        rows = [[float(word) for word in line.split()] for line in read_text(files.ibug_landmarks(index)).splitlines()]
        return np.array(rows, np.float64).shape
    except (OSError, ValueError):
        return None
