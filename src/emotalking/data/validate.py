"""Look over a subject folder and say what is missing or odd, how bad it is, and what to do."""

from collections.abc import Callable
from pathlib import Path

import emotalking.data.check_cameras as check_cameras
import emotalking.data.check_files as check_files
import emotalking.data.check_tables as check_tables
from emotalking.data.files import SubjectFiles
from emotalking.data.findings import Finding
from emotalking.data.subject import Subject
from emotalking.data.talkinggaussian import PEERS, peer_findings
from emotalking.errors import UserError

_NEEDED = "prepare the clip again or copy the file there"
_ORDER = ("error", "warning", "note")


def validate(path: str | Path, peer: str | None = None) -> list[Finding]:
    """Findings about a subject folder, worst first; an empty list means that nothing is missing or odd.

    Args:
        path: the folder; one that TalkingGaussian's or ER-NeRF's scripts wrote is fine.
        peer: "talkinggaussian" or "ernerf" looks with the eyes of its loader; None with ours.

    Raises:
        UserError: no such peer.
    """
    if peer is not None and peer not in PEERS:
        raise UserError(f"there is no peer called '{peer}': choose one of {', '.join(PEERS)}.")
    files = SubjectFiles(Path(path))
    if not files.root.is_dir():
        return [Finding("error", str(files.root), "no such folder", "make one with 'emotalking prepare'")]
    vital = (files.transforms("train"), files.transforms("val"), files.background)
    tracked = (files.root / "track_params.pt").exists()
    remedy = "emotalking import FOLDER makes them of track_params.pt" if tracked else _NEEDED
    found = [Finding("error", file.name, "missing", remedy) for file in vital if not file.exists()]
    if all(files.transforms(split).exists() for split in ("train", "val")):
        found += _run("transforms_*.json", lambda: check_cameras.numbering(files))
    try:
        subject = Subject.open(path)
    except UserError as error:
        if not any(finding.severity == "error" for finding in found):
            found.append(_finding("the folder", error))
        return sorted(found, key=_badness)
    checks: dict[str, Callable[[Subject], list[Finding]]] = {
        "transforms_*.json": check_cameras.cameras,
        "the frames": check_files.frame_files,
        "the pictures": check_files.image_sizes,
        "the masks": check_files.picture_contents,
        "ori_imgs": check_files.repeated_frames,
        "the landmarks": check_tables.landmarks,
        "au.csv": check_tables.action_units,
        "va.csv": check_tables.emotion,
        "aud_*.npy": check_tables.features,
        "aud.wav": check_tables.sound,
        "subject.json": check_tables.record,
    }
    if peer is not None:
        checks = {"transforms_*.json": check_cameras.cameras, "the pictures": check_files.image_sizes}
        checks |= {"aud.wav": check_tables.sound, peer: lambda subject: peer_findings(subject, peer)}
    for where, check in checks.items():
        found += _run(where, lambda check=check: check(subject))
    # A missing file may be met by several checks.
    return sorted(dict.fromkeys(found), key=_badness)


def _run(where: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    """A check, or the sentence of the file on which it stopped."""
    try:
        return check()
    except UserError as error:
        return [_finding(where, error)]


def _finding(where: str, error: UserError) -> Finding:
    what, _, remedy = str(error).rpartition(": ")
    return Finding("error", where, what or str(error), remedy if what else _NEEDED)


def _badness(finding: Finding) -> int:
    return _ORDER.index(finding.severity)
