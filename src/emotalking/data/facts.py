"""Summary of a subject folder."""

from pathlib import Path

from emotalking.data.subject import Subject
from emotalking.data.validate import validate


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
        "provenance": subject.manifest or "none (no subject.json: another program wrote this folder)",
        "findings": [str(finding) for finding in validate(path)],
    }
