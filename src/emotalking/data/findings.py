"""Findings about a subject folder, and checks of every frame's files: complete, of one size, in the right colours."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int, UInt8

from emotalking.data.files import SubjectFiles
from emotalking.data.labels import LABEL_COLOURS, Label, colours_to_labels
from emotalking.data.subject import Subject
from emotalking.errors import InputError
from emotalking.io.images import image_size, read_image

SAMPLES = 16
"""Frames whose images are decoded; of all others only the header is read."""
_IMPORT = "'emotalking import' into a new folder makes it"

Severity = Literal["error", "warning", "note"]
"""error: training (or the other program's loader) stops on it; warning: the result suffers; note: good to know."""


@dataclass(frozen=True)
class Finding:
    """Something missing or unusual, with a remedy."""

    severity: Severity
    where: str
    """File or family of files, relative to the folder."""
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.where}: {self.what}; {self.remedy}"


def ranges(numbers: Iterable[int] | Int[np.ndarray, " n"]) -> str:
    """Frame numbers as short text, such as "3, 7-9, ...": at most five runs."""
    ordered = np.unique(np.array(list(numbers), np.int64))
    runs = np.split(ordered, np.flatnonzero(np.diff(ordered) > 1) + 1)
    texts = [f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs[:5] if len(run)]
    return ", ".join(texts + (["..."] if len(runs) > 5 else []))


def families(files: SubjectFiles) -> tuple[tuple[str, Callable[[int], Path], Severity, str], ...]:
    """Files that each frame has: name, path, severity and remedy if one is missing."""
    copy = "prepare the clip again or copy the file there"
    lost: Severity = "note" if files.landmarks.exists() else "warning"
    return (
        ("ori_imgs/*.jpg", files.original, "warning", copy),
        ("gt_imgs/*.jpg", files.target, "error", copy),
        ("torso_imgs/*.png", files.torso, "error", copy),
        ("parsing/*.png", files.parsing, "error", _IMPORT),
        ("teeth_mask/*.npy", files.teeth, "warning", "no teeth are assumed there; " + _IMPORT),
        ("ori_imgs/*.lms", files.ibug_landmarks, lost, "'emotalking import' tracks the face again"),
    )


def present(path: Path) -> dict[int, int]:
    """Frame number to size in bytes of the numbered files that are next to ``path`` and have its suffix."""
    found = {}
    if path.parent.is_dir():
        with os.scandir(path.parent) as entries:
            for entry in entries:
                stem, end = os.path.splitext(entry.name)
                if end == path.suffix and stem.isdigit():
                    found[int(stem)] = entry.stat().st_size
    return found


def missing_files(name: str, there: Iterable[int], count: int, severity: Severity, remedy: str) -> Iterator[Finding]:
    """Frames among ``count`` without a file of the family ``name``."""
    if missing := set(range(count)) - set(there):
        yield Finding(severity, name, f"{len(missing)} of {count} files are missing ({ranges(missing)})", remedy)


def frame_files(subject: Subject) -> Iterator[Finding]:
    """Missing, empty and superfluous files of every family."""
    count = subject.num_frames
    for name, path_of, severity, remedy in families(subject.files):
        there = present(path_of(0))
        yield from missing_files(name, there, count, severity, remedy)
        if empty := [i for i, size in there.items() if size == 0 and i < count]:
            yield Finding(severity, name, f"{len(empty)} files are empty ({ranges(empty)})", remedy)
        if more := [i for i in there if i >= count]:
            what = f"{len(more)} files beyond the {count} cameras ({ranges(more)})"
            yield Finding("note", name, what, "they are not used; an interrupted tracker causes them")


def image_sizes(subject: Subject) -> Iterator[Finding]:
    """Headers only, so that a long clip is checked in seconds."""
    size = (subject.width, subject.height)
    for name, path_of, severity, remedy in families(subject.files)[:4]:
        unreadable = []
        resized = []
        other = size
        for index in range(subject.num_frames):
            if not path_of(index).exists():
                continue
            try:
                found_size = image_size(path_of(index))
            except InputError:
                unreadable.append(index)
                continue
            if found_size != size:
                resized.append(index)
                other = found_size
        if unreadable:
            what = f"{len(unreadable)} files are no readable images ({ranges(unreadable)})"
            yield Finding(severity, name, what, remedy)
        if resized:
            sizes = f"{other[0]} x {other[1]}, bc.jpg {size[0]} x {size[1]}"
            what = f"{len(resized)} images measure {sizes} ({ranges(resized)})"
            yield Finding("error", name, what, "resize all images to the size of bc.jpg")


def _samples(subject: Subject) -> list[int]:
    """Frames to decode: evenly spread, and those with the widest open mouth."""
    count = subject.num_frames
    spread = np.linspace(0, count - 1, min(SAMPLES // 2, count)).round().astype(int)
    opening = np.where(subject.landmarks.detected, subject.mouth_opening, -np.inf)
    return sorted({*spread.tolist(), *np.argsort(-opening, kind="stable")[: SAMPLES // 2].tolist()})


def image_contents(subject: Subject) -> Iterator[Finding]:
    """Colours of the masks, and whether torso and target show anything."""
    files = subject.files
    labels_found: set[Label] = set()
    unknown = 0.0
    opaque = []
    flat = []
    broken = []
    sampled = _samples(subject)
    for index in sampled:
        parsing, torso, target = (_decoded(path(index)) for path in (files.parsing, files.torso, files.target))
        for path, image in ((files.parsing(index), parsing), (files.target(index), target)):
            if image is None and path.exists():
                broken.append(path.relative_to(files.root))
        if parsing is not None:
            share, classes = colours_of(parsing[..., :3])
            unknown = max(unknown, share)
            labels_found |= classes
        if torso is not None and (torso.ndim != 3 or torso.shape[2] != 4):
            opaque.append(index)
        if target is not None and float(target.std()) < 2.0:
            flat.append(index)
    if broken:
        yield Finding("error", str(broken[0]), "cannot be decoded", "copy it again or prepare the clip again")
    if opaque:
        what = f"no alpha channel (frames {ranges(opaque)})"
        yield Finding("error", "torso_imgs/*.png", what, "write RGBA: torso and neck opaque, the rest clear")
    if flat:
        yield Finding("error", "gt_imgs/*.jpg", f"one colour only (frames {ranges(flat)})", "write them again")
    if labels_found or unknown:
        yield from _parsing(labels_found, unknown, len(sampled))


def _parsing(labels_found: set[Label], unknown: float, sampled: int) -> Iterator[Finding]:
    where = "parsing/*.png"
    if unknown > 0.01:
        what = f"up to {unknown:.0%} of the pixels have none of the six colours"
        remedy = "paint (0,0,255) head, (0,0,0) hair, (100,100,100) mouth, (0,255,0) neck, (255,0,0) torso, white rest"
        yield Finding("error" if unknown > 0.2 else "warning", where, what, remedy)
    if Label.HEAD not in labels_found:
        yield Finding("error", where, f"no head in {sampled} frames", _IMPORT)
    if Label.MOUTH not in labels_found:
        what = f"no inside of a mouth in {sampled} frames, the widest open ones among them"
        yield Finding("error", where, what, "ER-NeRF's masks know none; " + _IMPORT)
    for label in (Label.HAIR, Label.TORSO, Label.NECK):
        if label not in labels_found:
            yield Finding("warning", where, f"no {label.name.lower()} in {sampled} frames", "check the masks")


def colours_of(image: UInt8[np.ndarray, "H W 3"]) -> tuple[float, set[Label]]:
    """Share of pixels that are more than 40 levels in some channel from all six colours; the classes of the others."""
    labels = colours_to_labels(image)
    near = (np.abs(image.astype(np.int16) - LABEL_COLOURS[labels].astype(np.int16)) <= 40).all(-1)
    counts = np.bincount(labels[near], minlength=len(Label))
    return float(1 - near.mean()), {label for label in Label if counts[label] > 0}


def _decoded(path: Path) -> np.ndarray | None:
    """An RGB(A) image; None if it is missing or cannot be decoded."""
    try:
        image = read_image(path, unchanged=True)
    except InputError:
        return None
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, -1)


def repeated_frames(subject: Subject) -> Iterator[Finding]:
    """Original frames that are the same file twice; worse when one of them trains and the other validates."""
    files, count = subject.files, subject.num_frames
    by_size: dict[int, list[int]] = defaultdict(list)
    for index, size in present(files.original(0)).items():
        if index < count:
            by_size[size].append(index)
    val = set(subject.val_indices.tolist())
    across, repeated = [], []
    for same in _same_bytes(files, (group for group in by_size.values() if len(group) > 1)):
        repeated += same[1:]
        if 0 < len(val & set(same)) < len(same):
            across += sorted(val & set(same))
    if across:
        what = f"{len(across)} held-out frames are copies of training frames ({ranges(across)})"
        yield Finding("warning", "ori_imgs/*.jpg", what, "scores on them mean nothing: cut the clip elsewhere")
    if len(repeated) > max(2, 0.02 * count):
        what = f"{len(repeated)} of {count} frames repeat another ({ranges(repeated)})"
        yield Finding("warning", "ori_imgs/*.jpg", what, "the clip's rate was reached by repeating frames")


def _same_bytes(files: SubjectFiles, groups: Iterator[list[int]]) -> Iterator[list[int]]:
    for group in groups:
        by_hash: dict[bytes, list[int]] = defaultdict(list)
        for index in sorted(group):
            by_hash[hashlib.sha256(files.original(index).read_bytes()).digest()].append(index)
        yield from (same for same in by_hash.values() if len(same) > 1)
