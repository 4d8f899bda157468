"""Validation of a subject folder: what is missing or unusual, with severity and remedy."""

from collections.abc import Callable
from pathlib import Path

import emotalking.data.check_cameras as check_cameras
import emotalking.data.check_files as check_files
import emotalking.data.check_tables as check_tables
from emotalking.data.compat import PROGRAMS, compat_findings
from emotalking.data.files import SubjectFiles
from emotalking.data.findings import Finding
from emotalking.data.subject import Subject
from emotalking.errors import InputError

_NEEDED = "prepare the clip again or copy the file there"
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
        found += _run("transforms_*.json", lambda: check_cameras.numbering(files))
    try:
        subject = Subject.open(path)
    except InputError as error:
        if not any(finding.severity == "error" for finding in found):
            found.append(_finding("the folder", error))
        return sorted(found, key=_badness)
    checks: dict[str, Callable[[Subject], list[Finding]]] = {
        "transforms_*.json": check_cameras.cameras,
        "the frames": check_files.frame_files,
        "the images": check_files.image_sizes,
        "the masks": check_files.image_contents,
        "ori_imgs": check_files.repeated_frames,
        "the landmarks": check_tables.landmarks,
        "au.csv": check_tables.action_units,
        "va.csv": check_tables.emotion,
        "aud_*.npy": check_tables.features,
        "aud.wav": check_tables.sound,
        "subject.json": check_tables.record,
    }
    if compat is not None:
        checks = {"transforms_*.json": check_cameras.cameras, "the images": check_files.image_sizes}
        checks |= {"aud.wav": check_tables.sound, compat: lambda subject: compat_findings(subject, compat)}
    for where, check in checks.items():
        found += _run(where, lambda check=check: check(subject))
    # Several checks may report the same missing file.
    return sorted(dict.fromkeys(found), key=_badness)


def _run(where: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    """Run a check; an unusable file becomes a finding."""
    try:
        return check()
    except InputError as error:
        return [_finding(where, error)]


def _finding(where: str, error: InputError) -> Finding:
    what, _, remedy = str(error).rpartition(": ")
    return Finding("error", where, what or str(error), remedy if what else _NEEDED)


def _badness(finding: Finding) -> int:
    return _ORDER.index(finding.severity)
