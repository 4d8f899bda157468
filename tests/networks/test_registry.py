"""The registry: every entry whole, files found, and the one sentence about a missing one."""

import hashlib
import json
from pathlib import Path

import pytest

from emotalking.cli.main import main
from emotalking.errors import InputError
from emotalking.networks.registry import model_folders, model_path, models


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty model folder; the home folder is another."""
    monkeypatch.setenv("EMOTALKING_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def test_every_entry_is_whole() -> None:
    assert {"bisenet", "easyportrait", "emonet8", "emonet5", "face_normals", "lpips_alex"} <= models().keys()
    for model in models().values():
        assert model.files and all((model.title, model.source, model.licence, model.limits, model.alternative))
        assert "--" not in model.alternative, "in the library's terms: it is quoted below the command line"
        assert "https://" in model.source
        assert model.sha256 is None or set(model.sha256) <= set("0123456789abcdef")


def test_a_missing_file_is_one_sentence(folder: Path) -> None:
    with pytest.raises(InputError) as caught:
        model_path("bisenet")
    message = str(caught.value)
    for word in (
        "79999_iter.pth",
        str(folder),
        "https://github.com/zllrunning",
        "non-commercial",
        "parsing 'embedded'",
    ):
        assert word in message
    assert "\n" not in message and message.endswith(".")


def test_the_chosen_folder_comes_before_the_home_folder(folder: Path) -> None:
    home = folder.parent / "home/.cache/emotalking/models"
    assert model_folders() == (folder, home)
    home.mkdir(parents=True)
    (home / "emonet_8.pth").touch()
    assert model_path("emonet8") == home / "emonet_8.pth"
    (folder / "emonet_8.pth").touch()
    assert model_path("emonet8") == folder / "emonet_8.pth"
    (folder / "squeezenet1_1.npz").touch()
    assert model_path("squeezenet") == folder / "squeezenet1_1.npz"


def test_the_published_file_is_known_by_its_hash(folder: Path) -> None:
    path = folder / "squeezenet1_1-b8a52dc0.pth"
    path.write_bytes(b"something else")
    assert models()["squeezenet"].is_published(path) is False
    assert models()["squeezenet"].is_published(folder / "squeezenet1_1.npz") is None
    assert models()["easyportrait"].is_published(path) is None
    digest = hashlib.sha256(b"something else").hexdigest()
    assert type(models()["squeezenet"])(**{**vars(models()["squeezenet"]), "sha256": digest[:8]}).is_published(path)


def test_the_command_lists_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "emonet_8.pth").write_bytes(b"0" * 100_000)
    assert main(["models"]) == 0
    told = capsys.readouterr().out
    assert f"{folder / 'emonet_8.pth'}, 0.1 MB, NOT the published file" in told
    assert "missing (79999_iter.pth)" in told and "CC BY-NC-ND 4.0" in told
    assert main(["models", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts.keys() == models().keys() and facts["bisenet"]["without"] == "parsing 'embedded'"
