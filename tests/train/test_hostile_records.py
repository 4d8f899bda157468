"""Records and avatars of other types: one sentence, and the page about all avatars is made nevertheless."""

import json
from pathlib import Path
from typing import Any

import pytest

from emotalking.errors import InputError
from emotalking.jobs.engine import Sequential
from emotalking.train.callbacks.log import LOG
from emotalking.train.callbacks.report import PAGE, write_page
from emotalking.train.callbacks.rows import read_log
from emotalking.train.many import train_many

from ..hostile.readers import make_avatar, make_record


@pytest.fixture
def record(tmp_path: Path) -> Path:
    make_record(tmp_path / "a.safetensors.run")
    return tmp_path / "a.safetensors.run" / LOG


def changed(record: Path, line: int, values: dict[str, Any]) -> None:
    rows = [json.loads(text) for text in record.read_text().splitlines()]
    rows[line] |= values
    record.write_text("".join(json.dumps(row) + "\n" for row in rows))


ROWS = {
    "settings as a list": (0, {"settings": []}),
    "frames as a number": (0, {"frames": 3}),
    "iterations as text": (1, {"iterations": "40"}),
    "an iteration of thirty digits": (2, {"iteration": 10**30}),
    "Gaussians as a number": (2, {"gaussians": 7}),
    "terms of text": (2, {"terms": {"l1": "small"}}),
    "a loss as a flag": (2, {"loss": True}),
    "a stage as a list": (3, {"stage": ["face"]}),
    "an image outside the folder": (4, {"image": "../../private.jpg"}),
    "an absolute image": (4, {"image": "/etc/private.jpg"}),
}


@pytest.mark.parametrize("row", ROWS)
def test_rows_of_other_types_are_named(row: str, record: Path) -> None:
    changed(record, *ROWS[row])
    with pytest.raises(InputError, match=rf"Line {ROWS[row][0] + 1} of .*log\.jsonl is damaged"):
        read_log(record)
    with pytest.raises(InputError):
        write_page(record.parent)


def test_rows_that_do_not_fit_together_are_one_sentence(record: Path) -> None:
    write_page(record.parent)
    assert (record.parent / PAGE).exists()
    changed(record, 1, {"stage": "another"})  # the steps are of a stage that never began
    with pytest.raises(InputError, match="has rows that do not fit together"):
        write_page(record.parent)


@pytest.mark.parametrize(
    "damage", ["avatar of another kind", "damaged record", "record that lacks values", "cut avatar"]
)
def test_a_malformed_finished_avatar_does_not_stop_the_page_about_all(
    damage: str, tmp_path: Path, record: Path
) -> None:
    folder, subject = record.parents[1], tmp_path / "subjects" / "a"
    subject.mkdir(parents=True)
    avatar = folder / "a.safetensors"
    make_avatar(avatar)
    if damage == "avatar of another kind":
        avatar.write_bytes(b"\x08\0\0\0\0\0\0\0[1, 2 ] ")
    elif damage == "cut avatar":
        avatar.write_bytes(avatar.read_bytes()[:5000])
    elif damage == "damaged record":
        changed(record, 2, {"gaussians": 7})
    else:
        record.write_text(json.dumps({"kind": "run"}) + "\n")

    result = train_many([subject], folder, "tiny", [], Sequential("cpu"))
    page = result.page.read_text()
    assert "0 of 1 subjects have an avatar" in page and list(result.failures) == ["a"]
