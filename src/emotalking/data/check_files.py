"""Checks of a subject folder's images: complete, readable, of one size, and in the right colours."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from emotalking.data.files import SubjectFiles
from emotalking.data.findings import Finding, Severity, ranges
from emotalking.data.labels import LABEL_COLOURS, Label, colours_to_labels
from emotalking.data.subject import Subject
from emotalking.errors import InputError
from emotalking.io.images import image_size, read_image

SAMPLES = 16
"""Frames whose images are decoded; of all others only the header is read."""
IMPORT_REMEDY = "'emotalking import' into a new folder makes it"


def families(files: SubjectFiles) -> tuple[tuple[str, Callable[[int], Path], Severity, str], ...]:
    """Files that each frame has: name, path, severity and remedy if one is missing."""
    copy = "prepare the clip again or copy the file there"
    lost: Severity = "note" if files.landmarks.exists() else "warning"
    return (
        ("ori_imgs/*.jpg", files.original, "warning", copy),
        ("gt_imgs/*.jpg", files.target, "error", copy),
        ("torso_imgs/*.png", files.torso, "error", copy),
        ("parsing/*.png", files.parsing, "error", IMPORT_REMEDY),
        ("teeth_mask/*.npy", files.teeth, "warning", "no teeth are assumed there; " + IMPORT_REMEDY),
        ("ori_imgs/*.lms", files.ibug_landmarks, lost, "'emotalking import' tracks the face again"),
    )


def present(folder: Path, suffix: str) -> dict[int, int]:
    """Frame number to size in bytes of the numbered files with ``suffix`` in ``folder``."""
    found = {}
    if folder.is_dir():
        with os.scandir(folder) as entries:
            for entry in entries:
                stem, end = os.path.splitext(entry.name)
                if end == suffix and stem.isdigit():
                    found[int(stem)] = entry.stat().st_size
    return found


def frame_files(subject: Subject) -> list[Finding]:
    """Missing, empty and superfluous files of every family."""
    found: list[Finding] = []
    count = subject.num_frames
    for name, path_of, severity, remedy in families(subject.files):
        path = path_of(0)
        there = present(path.parent, path.suffix)
        missing = set(range(count)) - set(there)
        if missing:
            what = f"{len(missing)} of {count} files are missing ({ranges(missing)})"
            found.append(Finding(severity, name, what, remedy))
        empty = [i for i, size in there.items() if size == 0 and i < count]
        if empty:
            found.append(Finding(severity, name, f"{len(empty)} files are empty ({ranges(empty)})", remedy))
        more = [i for i in there if i >= count]
        if more:
            what = f"{len(more)} files beyond the {count} cameras ({ranges(more)})"
            found.append(Finding("note", name, what, "they are not used; an interrupted tracker causes them"))
    return found


def image_sizes(subject: Subject) -> list[Finding]:
    """Headers only, so that a long clip is checked in seconds."""
    found: list[Finding] = []
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
            found.append(Finding(severity, name, what, remedy))
        if resized:
            sizes = f"{other[0]} x {other[1]}, bc.jpg {size[0]} x {size[1]}"
            what = f"{len(resized)} images measure {sizes} ({ranges(resized)})"
            found.append(Finding("error", name, what, "resize all images to the size of bc.jpg"))
    return found


def samples(subject: Subject) -> list[int]:
    """Frames to decode: evenly spread, and those with the widest open mouth."""
    count = subject.num_frames
    spread = np.linspace(0, count - 1, min(SAMPLES // 2, count)).round().astype(int)
    opening = np.where(subject.landmarks.detected, subject.mouth_opening, -np.inf)
    return sorted({*spread.tolist(), *np.argsort(-opening, kind="stable")[: SAMPLES // 2].tolist()})


def image_contents(subject: Subject) -> list[Finding]:
    """Colours of the masks, and whether torso and target show anything."""
    found: list[Finding] = []
    labels_found = set()
    unknown = 0.0
    opaque = []
    flat = []
    broken = []
    sampled = samples(subject)
    for index in sampled:
        parsing, torso, target = (
            _decoded(path)
            for path in (subject.files.parsing(index), subject.files.torso(index), subject.files.target(index))
        )
        for path, image in ((subject.files.parsing(index), parsing), (subject.files.target(index), target)):
            if image is None and path.exists():
                broken.append(path.relative_to(subject.files.root))
        if parsing is not None:
            share, classes = colours_of(parsing[..., :3])
            unknown = max(unknown, share)
            labels_found |= classes
        if torso is not None and (torso.ndim != 3 or torso.shape[2] != 4):
            opaque.append(index)
        if target is not None and float(target.std()) < 2.0:
            flat.append(index)
    if broken:
        found.append(Finding("error", str(broken[0]), "cannot be decoded", "copy it again or prepare the clip again"))
    if opaque:
        what = f"no alpha channel (frames {ranges(opaque)})"
        found.append(Finding("error", "torso_imgs/*.png", what, "write RGBA: torso and neck opaque, the rest clear"))
    if flat:
        found.append(Finding("error", "gt_imgs/*.jpg", f"one colour only (frames {ranges(flat)})", "write them again"))
    return found + (_parsing(labels_found, unknown, len(sampled)) if labels_found or unknown else [])


def _parsing(labels_found: set[Label], unknown: float, sampled: int) -> list[Finding]:
    found: list[Finding] = []
    if unknown > 0.01:
        what = f"up to {unknown:.0%} of the pixels have none of the six colours"
        remedy = "paint (0,0,255) head, (0,0,0) hair, (100,100,100) mouth, (0,255,0) neck, (255,0,0) torso, white rest"
        found.append(Finding("error" if unknown > 0.2 else "warning", "parsing/*.png", what, remedy))
    none = {label: label not in labels_found for label in Label}
    if none[Label.HEAD]:
        found.append(Finding("error", "parsing/*.png", f"no head in {sampled} frames", IMPORT_REMEDY))
    if none[Label.MOUTH]:
        what = f"no inside of a mouth in {sampled} frames, the widest open ones among them"
        found.append(Finding("error", "parsing/*.png", what, "ER-NeRF's masks know none; " + IMPORT_REMEDY))
    for label, what in ((Label.HAIR, "hair"), (Label.TORSO, "torso"), (Label.NECK, "neck")):
        if none[label]:
            found.append(Finding("warning", "parsing/*.png", f"no {what} in {sampled} frames", "check the masks"))
    return found


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


def repeated_frames(subject: Subject) -> list[Finding]:
    """Original frames that are the same file twice; worse when one of them trains and the other validates."""
    files, count = subject.files, subject.num_frames
    by_size: dict[int, list[int]] = defaultdict(list)
    for index, size in present(files.original(0).parent, ".jpg").items():
        if index < count:
            by_size[size].append(index)
    val = set(subject.val_indices.tolist())
    across, repeated = [], []
    for same in _same_bytes(files, (group for group in by_size.values() if len(group) > 1)):
        repeated += same[1:]
        if 0 < len(val & set(same)) < len(same):
            across += sorted(val & set(same))
    found: list[Finding] = []
    if across:
        what = f"{len(across)} held-out frames are copies of training frames ({ranges(across)})"
        found.append(Finding("warning", "ori_imgs/*.jpg", what, "scores on them mean nothing: cut the clip elsewhere"))
    if len(repeated) > max(2, 0.02 * count):
        what = f"{len(repeated)} of {count} frames repeat another ({ranges(repeated)})"
        found.append(Finding("warning", "ori_imgs/*.jpg", what, "the clip's rate was reached by repeating frames"))
    return found


def _same_bytes(files: SubjectFiles, groups: Iterator[list[int]]) -> Iterator[list[int]]:
    for group in groups:
        by_hash: dict[bytes, list[int]] = defaultdict(list)
        for index in sorted(group):
            by_hash[hashlib.sha256(files.original(index).read_bytes()).digest()].append(index)
        yield from (same for same in by_hash.values() if len(same) > 1)
