"""Safetensors files: what is written is read; anything else is refused in two kinds of error."""

from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from emotalking.io.tensors import read_tensors, write_tensors


def test_tensors_and_metadata_are_read_as_they_were_written(tmp_path: Path) -> None:
    rows = torch.arange(6.0).reshape(2, 3).requires_grad_()
    write_tensors(tmp_path / "new" / "a.safetensors", {"rows": rows, "columns": rows.T}, {"format": "made"})
    metadata, tensors = read_tensors(tmp_path / "new" / "a.safetensors")
    assert metadata == {"format": "made"} and sorted(tensors) == ["columns", "rows"]
    assert torch.equal(tensors["rows"], rows) and torch.equal(tensors["columns"], rows.T)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["a.safetensors"]


def test_a_file_without_metadata_has_an_empty_one(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "a.safetensors")
    assert read_tensors(tmp_path / "a.safetensors")[0] == {}


def test_bad_files_are_value_errors_and_missing_ones_os_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(OSError):
        read_tensors(path)
    write_tensors(path, {"x": torch.zeros(9)}, {})
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError):
        read_tensors(path)


def test_a_failed_write_is_an_os_error_and_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"x": torch.ones(1)}, {"k": "old"})

    def fail(*_: object, **__: object) -> None:
        raise SafetensorError("disk full")

    monkeypatch.setattr("emotalking.io.safetensors_files.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        write_tensors(path, {"x": torch.zeros(1)}, {"k": "new"})
    assert read_tensors(path)[0] == {"k": "old"} and list(tmp_path.iterdir()) == [path]
