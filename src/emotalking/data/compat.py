"""Compatibility of a subject folder with TalkingGaussian's and ER-NeRF's loaders (docs/paper.md 1 and 14).

They read by exact names, headers and colours where our reader is lenient; what would stop them is an error here.
"""

import csv

import numpy as np

from emotalking.data.audio_features import audio_feature
from emotalking.data.check_files import SAMPLES, families, present
from emotalking.data.check_tables import lms_rows
from emotalking.data.files import SubjectFiles
from emotalking.data.findings import Finding, ranges
from emotalking.data.labels import LABEL_COLOURS, Label, colours_to_labels
from emotalking.data.layouts import MODEL_AUS
from emotalking.data.readers import read_json
from emotalking.data.subject import Subject
from emotalking.io.arrays import load_array
from emotalking.io.images import read_image

PROGRAMS = ("talkinggaussian", "ernerf")
_FEATURES = {
    "talkinggaussian": ("aud_ds.npy", "aud_hu.npy", "aud_eo.npy"),
    "ernerf": ("aud.npy", "aud_hu.npy", "aud_eo.npy"),
}
"""Names that each loader opens; the first is its default (DeepSpeech), the others need an option."""
_COLUMNS = {"talkinggaussian": (*MODEL_AUS, "AU25"), "ernerf": ("AU45",)}


def compat_findings(subject: Subject, program: str) -> list[Finding]:
    """Obstacles for the loader of ``program``.

    Args:
        subject: an opened folder.
        program: one of :data:`PROGRAMS`.

    Deviation: their code cannot be run here; the rules are those of docs/paper.md 1.
    """
    files, count = subject.files, subject.num_frames
    found = _features(files, count, _FEATURES[program]) + _cameras(subject) + _columns(files, count, _COLUMNS[program])
    needed = families(files) if program == "talkinggaussian" else [f for f in families(files) if "teeth" not in f[0]]
    for name, path_of, _, remedy in needed:
        path = path_of(0)
        missing = set(range(count)) - set(present(path.parent, path.suffix))
        if missing:
            what = f"{len(missing)} of {count} files are missing ({ranges(missing)})"
            found.append(Finding("error", name, what, remedy))
    return found + _contents(subject, program)


def _features(files: SubjectFiles, count: int, names: tuple[str, ...]) -> list[Finding]:
    there = [name for name in names if (files.root / name).exists()]
    if names[0] in there:
        return _shape(files, names[0], count, "ds")
    if there:
        what = f"missing; {there[0]} is there and needs the loader's option for its kind"
        return [Finding("warning", names[0], what, "name it on its command line"), *_shape(files, there[0], count)]
    twin = "aud.npy" if names[0] == "aud_ds.npy" else "aud_ds.npy"
    if (files.root / twin).exists():
        return [Finding("error", names[0], f"missing, but {twin} is there", f"copy {twin} to {names[0]}")]
    remedy = "run its DeepSpeech script on aud.wav and put the array [frames, 16, 29] there (mel is EmoTalking's)"
    return [Finding("error", names[0], "missing", remedy)]


def _shape(files: SubjectFiles, name: str, count: int, kind: str | None = None) -> list[Finding]:
    feature = audio_feature(kind or name.removeprefix("aud_").removesuffix(".npy"))
    try:
        shape = load_array(files.root / name, mmap_mode="r").shape
    except (OSError, ValueError, EOFError) as error:
        return [Finding("error", name, f"no array ({error})", "extract the features again")]
    if shape[1:] != feature.shape:
        return [Finding("error", name, f"shape {list(shape)}", f"{[count, *feature.shape]} is expected")]
    return []


def _cameras(subject: Subject) -> list[Finding]:
    found: list[Finding] = []
    for split in ("train", "val"):
        path = subject.files.transforms(split)
        content = read_json(path)
        missing = [key for key in ("focal_len", "cx", "cy", "frames") if key not in content]
        if any("aud_id" not in frame for frame in content.get("frames", [])):
            missing.append("frames[].aud_id")
        if missing:
            found.append(Finding("error", path.name, f"no {', '.join(missing)}", "add it: cx, cy = half the size"))
        elif (content["cx"], content["cy"]) != (subject.width / 2, subject.height / 2):
            what = f"principal point ({content['cx']:g}, {content['cy']:g}) is not the centre"
            found.append(Finding("warning", path.name, what, "it is ignored or taken for half the image's size"))
    return found


def _columns(files: SubjectFiles, count: int, names: tuple[str, ...]) -> list[Finding]:
    try:
        with files.action_units.open(newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        return [Finding("error", "au.csv", f"cannot be read ({error})", "run OpenFace on the frames")]
    header = rows[0] if rows else []
    found: list[Finding] = []
    missing = [f" {name}_r" for name in names if f" {name}_r" not in header]
    if missing:
        what = "no column " + ", ".join(f'"{name}"' for name in missing)
        found.append(Finding("error", "au.csv", what, "OpenFace's names begin with a space: write them so"))
    if len(rows) - 1 < count:
        what = f"{len(rows) - 1} rows for {count} frames"
        found.append(Finding("error", "au.csv", what, "its rows are taken by frame number"))
    return found


def _contents(subject: Subject, program: str) -> list[Finding]:
    """A sample of frames: exact colours, 68 rows of two numbers, masks of the images' size."""
    colours = []
    rows = []
    teeth = []
    hair = 0
    for index in np.linspace(0, subject.num_frames - 1, min(SAMPLES, subject.num_frames)).round().astype(int).tolist():
        files = subject.files
        if files.parsing(index).exists():
            pixels = read_image(files.parsing(index))
            labels = colours_to_labels(pixels)
            hair += int((labels == Label.HAIR).sum())
            if (pixels != LABEL_COLOURS[labels]).any():
                colours.append(index)
        table = lms_rows(files, index)
        if table is not None and table.shape != (68, 2):
            rows.append(index)
        if program == "talkinggaussian" and files.teeth(index).exists():
            mask = load_array(files.teeth(index))
            if mask.shape != (subject.height, subject.width) or mask.dtype != np.bool_:
                teeth.append(index)
    found: list[Finding] = []
    if colours:
        what = f"colours that are none of the six exactly (frames {ranges(colours)})"
        found.append(Finding("error", "parsing/*.png", what, "write lossless PNG, resize with nearest neighbour"))
    if rows:
        found.append(Finding("error", "ori_imgs/*.lms", f"not 68 rows of x y (frames {ranges(rows)})", "write iBUG-68"))
    if teeth:
        what = f"no bool mask of the image's size (frames {ranges(teeth)})"
        found.append(Finding("error", "teeth_mask/*.npy", what, "write bool [H, W]"))
    if program == "ernerf" and hair:
        what = "hair has a colour of its own (black), which ER-NeRF's masks do not know"
        found.append(Finding("note", "parsing/*.png", what, "where it needs the head, hair is left out"))
    return found
