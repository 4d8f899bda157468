"""The statement of consent and the licences of all networks, from training into the avatar."""

import json
import shutil
from pathlib import Path

from emotalking import api
from emotalking.data import Subject
from emotalking.io.files import write_bytes
from emotalking.models.avatar_file import read_avatar_metadata
from emotalking.provenance.consent import consent_of

from .small import small


def test_an_avatar_carries_consent_and_licences(actor_subject: Subject, tmp_path: Path) -> None:
    folder, form = tmp_path / "subject", tmp_path / "form.txt"
    shutil.copytree(actor_subject.files.root, folder)
    manifest = Subject.open(folder).manifest
    network = {"file": "x.pth", "sha256": "0", "licence": "non-commercial"}
    manifest["steps"] = {"masks": {"key": "a", "networks": {"bisenet": network}}, "pose": {"key": "b"}, "odd": 3}
    write_bytes(folder / "subject.json", json.dumps(manifest).encode())
    form.write_text("The actor agrees. 2026-05-01")
    settings = small("sync.expert=none", "perceptual.backbone=none", face=100)
    made = api.train(folder, tmp_path / "a.safetensors", preset="tiny", device="cpu", settings=settings, consent=form)
    metadata = read_avatar_metadata(made.path)
    assert consent_of(metadata) == consent_of(made.avatar.metadata)
    assert (
        metadata["consent"]["statement"] == "The actor agrees. 2026-05-01" and metadata["consent"]["file"] == form.name
    )
    assert metadata["licences"]["bisenet (prepare)"] == "non-commercial"
    assert any("hama" in name for name in metadata["licences"])
