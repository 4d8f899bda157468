"""Provenance of a report."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from emotalking.data import Subject
from emotalking.errors import InputError
from emotalking.evaluate.provenance import provenance


def test_everything_is_there_and_is_json(actor_subject: Subject, tmp_path: Path) -> None:
    avatar = tmp_path / "someone.safetensors"
    avatar.write_bytes(b"an avatar")
    made = provenance(actor_subject, avatar, "emotalking evaluate a b")
    assert json.loads(json.dumps(made)) == made
    assert made["command"] == "emotalking evaluate a b"
    assert made["avatar"] == {"file": "someone.safetensors", "sha256": hashlib.sha256(b"an avatar").hexdigest()}
    assert {"python", "torch", "numpy"} <= set(made["packages"])
    assert made["code"]["commit"] is None or len(made["code"]["commit"]) == 40
    assert set(made["machine"]) == {"processor", "cores", "threads", "gpu", "system"}


def test_splits_are_listed_and_hashed(actor_subject: Subject) -> None:
    data = provenance(actor_subject)["data"]
    train, val = data["train"], data["val"]
    assert train["count"] + val["count"] == actor_subject.num_frames
    assert train["frames"] == f"0-{train['count'] - 1}"
    assert data["disjoint"] and train["contiguous"] and val["contiguous"]
    numbers = np.arange(train["count"], dtype="<i8")
    assert train["numbers_sha256"] == hashlib.sha256(numbers.tobytes()).hexdigest()
    assert train["targets_sha256"] != val["targets_sha256"]


def test_a_changed_target_changes_the_fingerprint_of_its_split_alone(actor_subject: Subject, tmp_path: Path) -> None:
    shutil.copytree(actor_subject.files.root, tmp_path / "copy")
    subject = Subject.open(tmp_path / "copy")
    before = provenance(subject)["data"]
    assert before == provenance(actor_subject)["data"]
    changed = subject.files.target(int(subject.val_indices[0]))
    changed.write_bytes(changed.read_bytes() + b"\0")
    after = provenance(subject)["data"]
    assert after["train"] == before["train"]
    assert after["val"]["numbers_sha256"] == before["val"]["numbers_sha256"]
    assert after["val"]["targets_sha256"] != before["val"]["targets_sha256"]
    changed.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        provenance(subject)
