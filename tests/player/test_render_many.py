"""Tables of videos: read whole before anything begins, and rendered row by row."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from emotalking import api
from emotalking.api import rendering
from emotalking.cli.main import main
from emotalking.errors import InputError
from emotalking.player.render_table import Row, read_table

ROW = {"avatar": "a.safetensors", "audio": "a.wav", "output": "a.mp4"}


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The same table, by its ending."""
    if path.suffix == ".json":
        path.write_text(json.dumps(rows))
        return path
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.json"])
def test_every_column_is_read(name: str, tmp_path: Path) -> None:
    (tmp_path / "wall.png").touch()
    rows = [
        ROW | {"valence": "-0.5", "arousal": 0.25, "background": "wall.png", "poses": "fixed", "seconds": 2, "seed": 3},
        ROW | {"audio": "", "text": "Good, morning", "language": "de", "voice": "f2", "output": "b/c.webm"}
        | {"emotion": "happy:0.5", "background": "transparent"},
        ROW | {"output": "d.mov", "track": "mood.csv"},
    ]  # fmt: skip
    avatar, audio = tmp_path / "a.safetensors", tmp_path / "a.wav"
    assert read_table(written(tmp_path / name, rows)) == [
        Row(avatar, "a.mp4", audio, va=(-0.5, 0.25), background=str(tmp_path / "wall.png"), poses="fixed", seconds=2.0,
            seed=3),
        Row(avatar, "b/c.webm", text="Good, morning", language="de", voice="f2", emotion="happy:0.5",
            background="transparent"),
        Row(avatar, "d.mov", audio, track=tmp_path / "mood.csv"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"avatar": ""}, "the avatar is missing"),
        ({"output": ""}, "the output is missing"),
        ({"text": "hello"}, "give one of audio and text"),
        ({"audio": ""}, "give one of audio and text"),
        ({"valence": 0.5}, "both valence and arousal"),
        ({"valence": 2, "arousal": 0}, "must lie between -1 and 1"),
        ({"valence": "much", "arousal": 0}, "valence 'much' is not a number"),
        ({"emotion": "happy", "track": "a.csv"}, "one of emotion"),
        ({"poses": "wild"}, "poses 'wild': give recorded, expressive, fixed"),
        ({"colour": "red"}, "no column 'colour'"),
        ({"output": "../a.mp4"}, "must be a name within the folder of results"),
        ({"output": "/a.mp4"}, "must be a name within the folder of results"),
        ({"output": "logs/a.mp4"}, "not in logs"),
        ({"output": "a.gif"}, "not a name for video"),
        ({"background": "transparent"}, "not a name for transparent video"),
        ({"seconds": "nan"}, "is not a number"),
    ],
)
@pytest.mark.parametrize("name", ["t.csv", "t.json"])
def test_a_row_that_cannot_be_is_named(change: dict[str, Any], words: str, name: str, tmp_path: Path) -> None:
    table = written(tmp_path / name, [ROW | {"output": "first.mp4"}, ROW | change])
    with pytest.raises(InputError, match=rf"t\.(csv line [13]|json video 2): .*{words}"):
        read_table(table)


def test_two_rows_of_one_output_and_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 3: the output 'A.mp4' is that of .* line 2, too"):
        read_table(written(tmp_path / "t.csv", [ROW, ROW | {"output": "A.mp4"}]))
    with pytest.raises(InputError, match="has no rows"):
        read_table(written(tmp_path / "t.json", []))
    with pytest.raises(InputError, match=r"must be a \.csv or \.json"):
        read_table(tmp_path / "t.xls")
    with pytest.raises(InputError, match="is missing"):
        read_table(tmp_path / "absent.csv")


def test_a_video_is_rendered_again_only_if_something_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[dict[str, Any]] = []

    def render(avatar: Path, *, output: Path, **options: Any) -> None:
        made.append(options | {"avatar": avatar.name, "output": output.name})
        if avatar.name == "broken":
            raise InputError(f"{avatar} is no avatar.")
        output.parent.mkdir(exist_ok=True)
        output.write_bytes(b"\0\0\0\x18ftypmp42")

    monkeypatch.setattr(rendering, "render", render)
    for name in ("anna", "broken", "voice.wav"):
        (tmp_path / name).write_text(name)
    rows = [
        {"avatar": "anna", "audio": "voice.wav", "emotion": "happy", "output": "a/one.mp4"},
        {"avatar": "broken", "audio": "voice.wav", "output": "two.mp4"},
    ]
    table, out = written(tmp_path / "t.json", rows), tmp_path / "out"
    words = ["render-many", str(table), "-o", str(out), "--device", "cpu", "--provenance", "off"]
    assert main(words) == 2
    shown = capsys.readouterr()
    assert "| two.mp4 | failed |" in shown.out and shown.err.count("broken is no avatar") == 2
    told = {"audio": tmp_path / "voice.wav", "device": "cpu", "label": False, "provenance": "off"}
    assert made == [
        told | {"avatar": "anna", "emotion": "happy", "output": "one.mp4"},
        told | {"avatar": "broken", "output": "two.mp4"},
    ]
    assert '<a href="a/one.mp4">a/one.mp4</a>' in (out / "index.html").read_text()

    def again(**options: Any) -> list[str]:
        made.clear()
        api.render_many(written(table, rows), out, device="cpu", **{"provenance": "off"} | options)
        return [one["output"] for one in made]

    rows.pop()
    assert again() == []
    rows[0]["emotion"] = "sad"
    assert again() == ["one.mp4"]
    (tmp_path / "anna").write_text("trained again")
    assert again() == ["one.mp4"] and again() == []
    assert again(label=True) == ["one.mp4"]
    (out / "a" / "one.mp4").unlink()
    assert again(label=True) == ["one.mp4"]
