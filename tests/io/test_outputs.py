"""Inputs against outputs of every verb: what is refused before the work begins; nothing of the user's is lost."""

import dataclasses
import importlib
import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import cv2
import numpy as np
import pytest

from emotalking import api
from emotalking.cli.main import main, verbs
from emotalking.errors import InputError
from emotalking.io import outputs
from emotalking.io.kinds import KINDS
from emotalking.io.outputs import checked, claimed, roles, same
from emotalking.options import Input, Overwrite, PathLike, Reads, Writes
from emotalking.report import Page

NO_PATHS = {
    "text",
    "name",
    "names",
    "audio_offset",
    "fps",
    "settings",
    "command",
    "title",
    "emotion",
    "language",
    "voice",
    "device",
}
NO_PATHS |= {
    "address",
    "emotions",
    "voices",
    "start",
    "generator",
    "preset",
    "lpips",
    "emotion_model",
    "port",
    "host",
    "allowed_hosts",
    "token",
    "stream",
    "config",
}


def declared(function: Any) -> dict[str, Any]:
    """Annotations of all parameters of a function and of the fields of its configs."""
    found: dict[str, Any] = {}
    for one in inspect.signature(function).parameters.values():
        found[one.name] = one.annotation
        if dataclasses.is_dataclass(one.default):
            found |= {f"{one.name}.{entry.name}": entry.type for entry in dataclasses.fields(one.default)}
    return found


def may_be_path(name: str, annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    text = str(annotation)
    return "Path" in text or ("str" in text and "Literal" not in text and name.rpartition(".")[2] not in NO_PATHS)


def functions() -> dict[str, Any]:
    """Functions of all verbs, and what their command lines add."""
    modules = {name: importlib.import_module(module) for name, module in verbs().items()}
    found = {name: module.FUNCTION for name, module in modules.items()}
    return found | {f"{name} (command line)": module.run for name, module in modules.items()}


@pytest.mark.parametrize("name", sorted(functions()))
def test_every_path_of_every_verb_is_declared(name: str) -> None:
    function = functions()[name]
    paths = {key for key, annotation in declared(function).items() if may_be_path(key, annotation)} - {"arguments"}
    found = roles(function)
    assert not {key for key in paths if found[key] is None}, "declare it as read or written (emotalking.options)"
    assert all(role.kind in KINDS for role in found.values() if isinstance(role, Writes))
    for key, annotation in declared(function).items():
        if key in ("output", "page", "times", "strip", "frames_folder") or key == "json" and "Path" in str(annotation):
            assert isinstance(found[key], Writes), key


def test_every_verb_is_checked() -> None:
    for name, module in verbs().items():
        function = importlib.import_module(module).FUNCTION
        if any(roles(function).values()):
            assert hasattr(function, "__wrapped__"), f"{name}: @checked is missing"


def test_an_undeclared_path_would_be_found() -> None:
    assert may_be_path("output", PathLike) and may_be_path("x", "PathLike | None") and may_be_path("x", str)
    assert not may_be_path("count", int) and not may_be_path("text", str)
    assert roles(lambda output: None) == {"output": None}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files of the user, each with other bytes than anything that this program writes."""
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("photo.png", np.full((8, 8, 3), 99, np.uint8))
    Path("clip.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"video" * 100)
    Path("voice.wav").write_bytes(b"RIFF\0\0\0\0WAVE" + b"sound" * 100)
    Path("notes.txt").write_text("dear diary")
    Path("data.json").write_text('{"name": "package"}')
    Path("index.html").write_text("<html>my homepage</html>")
    Path("avatar.mp4").write_bytes((2).to_bytes(8, "little") + b"{}")
    for name in ("subject/ori_imgs", "subject/torso_imgs", "frames"):
        Path(name).mkdir(parents=True)
    Path("subject/au.csv").write_text("frame, AU45_r\n0, 1\n")
    Path("subject/report.json").write_text('{"mine": 1}')
    for i in range(3):
        Path(f"subject/torso_imgs/{i}.png").write_bytes(b"\x89PNG torso")
        Path(f"subject/ori_imgs/{i}.jpg").write_bytes(b"\xff\xd8\xff face")
    return tmp_path


def size(path: str) -> tuple[int, ...]:
    """Shape of an image file."""
    image = cv2.imread(path)
    assert image is not None
    return image.shape


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


DESTROYERS = [
    ["render", "avatar.mp4", "--audio", "voice.wav", "--paste", "clip.mp4", "-o", "clip.mp4"],
    ["render", "avatar.mp4", "--audio", "voice.wav", "-o", "avatar.mp4"],
    ["render", "avatar.mp4", "--audio", "voice.wav", "-o", "avatar.mp4", "--overwrite"],
    ["render", "avatar.mp4", "--audio", "clip.mp4", "-o", "clip.mp4", "--overwrite"],
    ["render", "avatar.mp4", "--audio", "voice.wav", "--background", "photo.png", "--strip", "photo.png"],
    ["render", "avatar.mp4", "--audio", "voice.wav", "--frames-folder", "subject/torso_imgs", "--overwrite"],
    ["render", "avatar.mp4", "--audio", "voice.wav", "-o", "new.mp4", "--strip", "new.mp4"],
    ["render", "avatar.mp4", "--audio", "voice.wav", "-o", "clip.mp4"],
    ["check", "clip.mp4", "--page", "clip.mp4"],
    ["check", "clip.mp4", "--page", "clip.mp4", "--overwrite"],
    ["check", "clip.mp4", "--page", "new.html", "--json", "clip.mp4"],
    ["check", "clip.mp4", "--page", "index.html"],
    ["check", "clip.mp4", "--json", "data.json"],
    ["check", "clip.mp4", "--page", "new", "--json", "./new"],
    ["faces", "apply", "photo.png", "-o", "photo.png", "--emotion", "happy"],
    ["faces", "apply", "photo.png", "-o", "notes.png", "--emotion", "happy"],
    ["faces", "apply", "subject", "-o", "subject/ori_imgs/1.jpg", "--emotion", "happy", "--overwrite"],
    ["faces", "apply", "subject", "-o", "subject/ori_imgs", "--emotion", "happy", "--overwrite"],
    ["faces", "sheet", "photo.png", "-o", "photo.png"],
    ["faces", "sheet", "clip.mp4", "-o", "notes.png"],
    ["faces", "train", "subject", "-o", "subject/au.csv"],
    ["train", "subject", "-o", "clip.mp4"],
    ["train", "subject", "-o", "subject/au.csv"],
    ["train", "subject", "-o", "subject/au.csv", "--overwrite"],
    ["train", "subject", "-o", "subject/ori_imgs/0.jpg"],
    ["sync", "train", "subject", "-o", "voice.wav"],
    ["sync", "measure", "clip.mp4", "--json", "clip.mp4"],
    ["sync", "measure", "clip.mp4", "--page", "index.html"],
    ["evaluate", "avatar.mp4", "subject", "-o", "subject"],
    ["compare", "subject", "a=avatar.mp4", "b=clip.mp4", "-o", "subject"],
    ["ablate", "subject", "-o", "subject"],
    ["train-many", "subject", "-o", "."],
    ["prepare-many", "voice.wav", "-o", "."],
    ["render-many", "data.json", "-o", "."],
    ["reproduce", "subject/report.json", "-o", "subject"],
    ["study", "make", "a=clip.mp4", "b=clip.mp4", "-o", "clip.mp4"],
    ["prepare", "clip.mp4", "-o", "clip.mp4"],
    ["prepare", "clip.mp4", "-o", "subject", "--action-units", "subject/au.csv"],
    ["tts", "hello", "-o", "notes.wav"],
    ["tts", "hello", "-o", "new.wav", "--times", "data.json"],
    ["tts-coverage", "--page", "index.html"],
    ["import", "subject", "-o", "clip.mp4"],
]


@pytest.mark.parametrize("words", DESTROYERS, ids=" ".join)
@pytest.mark.parametrize("named", ["plainly", "by link", "by hard link", "in another way"])
def test_no_verb_destroys_a_file(words: list[str], named: str, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("notes.png").write_text("no image")
    Path("notes.wav").write_text("no sound")
    words, target = list(words), Path(words[-2] if words[-1] == "--overwrite" else words[-1])
    at = (
        words.index(str(target), 2) if words.count(str(target)) < 2 else len(words) - 1 - words[::-1].index(str(target))
    )
    if named == "in another way":
        words[at] = f"subject/../{target}"
    elif named != "plainly" and target.name and target.exists() and (target.is_file() or named == "by link"):
        other = target.with_name(f"other{target.suffix}")
        other.symlink_to(target.absolute()) if named == "by link" else os.link(target, other)
        words[at] = str(other)
    before = content(files)
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.count("emotalking: error: ") == 1 and "Traceback" not in said
    assert content(files) == before


@checked
def verb(
    source: Input, output: Annotated[PathLike, Writes("image")], *, overwrite: Overwrite = False, fails: bool = False
) -> None:
    """Write an image."""
    from emotalking.io.images import write_image

    if fails:
        raise InputError("on purpose.")
    write_image(output, np.zeros((4, 4, 3), np.uint8))


def test_a_file_of_another_kind_is_kept_unless_it_may_be_overwritten(files: Path) -> None:
    with pytest.raises(InputError, match="exists and is no image: choose another name, or allow overwriting"):
        verb("clip.mp4", "notes.txt")
    verb("clip.mp4", "photo.png")
    assert size("photo.png") == (4, 4, 3)
    verb("clip.mp4", "notes.txt", overwrite=True)
    assert Path("notes.txt").read_bytes().startswith(b"\x89PNG")
    Path("empty.png").touch()
    verb("clip.mp4", "empty.png")


def test_links_are_written_through(files: Path) -> None:
    Path("deep").mkdir()
    shutil.move("photo.png", "deep/real.png")
    Path("link.png").symlink_to("deep/real.png")
    Path("dangling.png").symlink_to("deep/new.png")
    for name in ("link.png", "dangling.png"):
        verb("clip.mp4", name)
        assert Path(name).is_symlink() and size(name) == (4, 4, 3)
    assert size("deep/real.png") == (4, 4, 3) and not Path("deep/new.png").is_symlink()
    Path("circle.png").symlink_to("circle.png")
    with pytest.raises(InputError, match=r"circle.png cannot be written \(.*symbolic links"):
        verb("clip.mp4", "circle.png")


def test_permissions_of_a_replaced_file_stay_and_protected_ones_are_refused(files: Path) -> None:
    os.chmod("photo.png", 0o640)
    verb("clip.mp4", "photo.png")
    assert Path("photo.png").stat().st_mode & 0o777 == 0o640
    os.chmod("photo.png", 0o444)
    with pytest.raises(InputError, match="write-protected"):
        verb("clip.mp4", "photo.png", overwrite=True)


def test_places_that_cannot_be_written_are_refused_before_the_work(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [
        ("x" * 260 + ".png", "too long"),
        ("notes.txt/a.png", "not a folder|Not a directory"),
        ("frames", "is a folder"),
    ]
    for name, says in cases:
        with pytest.raises(InputError, match=says):
            verb("clip.mp4", name, fails=True)
    access = os.access
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: not str(path).endswith("frames") and access(path, mode))
        with pytest.raises(InputError, match="no permission to write to .*frames"):
            verb("clip.mp4", "frames/a.png", fails=True)
    with monkeypatch.context() as patch:
        usage = shutil.disk_usage(".")
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
        with pytest.raises(InputError, match="No space left on device: at least 1 MB are needed"):
            verb("clip.mp4", "a.png", fails=True)
    assert not list(files.glob("*.part"))


def test_a_device_is_written_to_and_never_replaced(files: Path) -> None:
    verb("clip.mp4", "/dev/null")
    assert Path("/dev/null").is_char_device()
    os.mkfifo("pipe")
    with subprocess.Popen(["cat", "pipe"], stdout=subprocess.PIPE) as reader:
        verb("clip.mp4", "pipe")
        assert reader.communicate()[0].startswith(b"\x89PNG")
    assert Path("pipe").is_fifo()


def test_names_of_one_file(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert same(Path("new.png"), Path("subject/../new.png")) and same(Path("new/a.png"), Path("./new/a.png"))
    assert not same(Path("new.png"), Path("New.png"))
    monkeypatch.setattr(outputs, "_ignores_case", lambda folder: True)
    assert same(Path("new.png"), Path("New.png")) and not same(Path("new.png"), Path("old.png"))


def test_a_page_and_a_report_of_this_program_may_be_made_again(files: Path) -> None:
    Page("mine").write(files / "page.html")
    values = {"page": "page.html", "report": str(files / "report")}

    def both(page: Annotated[PathLike, Writes("html page")], report: Annotated[PathLike, Writes("report")]) -> None: ...

    with claimed([both], values):
        pass
    Path("report").mkdir(exist_ok=True)
    Path("report/report.html").write_text("<html>")
    with pytest.raises(InputError, match="holds report.html"), claimed([both], values):
        pass
    Path("report/report.json").write_text(json.dumps({"format": "emotalking-evaluation"}))
    with claimed([both], values):
        pass


def test_two_commands_on_one_folder(files: Path) -> None:
    code = (
        "import sys, time; from emotalking.io.files import holding; from pathlib import Path\n"
        "with holding(Path('busy'), shared=len(sys.argv) > 1): print('held', flush=True); time.sleep(600)"
    )

    def make(output: Annotated[PathLike, Writes("report")]) -> None: ...

    def use(subject: Annotated[PathLike, Reads(held=True)]) -> None: ...

    for words, both in ((["-c", code], False), (["-c", code, "shared"], True)):
        with subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE) as other:
            assert other.stdout is not None and other.stdout.readline() == b"held\n"
            with (
                pytest.raises(InputError, match="busy is in use by another command"),
                claimed([make], {"output": "busy"}),
            ):
                pass
            if both:
                with claimed([use], {"subject": "busy"}):
                    pass
            else:
                with pytest.raises(InputError, match="in use"), claimed([use], {"subject": "busy"}):
                    pass
            other.kill()
        with claimed([make], {"output": "busy"}):  # released by the kill
            pass


def test_a_refused_verb_leaves_no_folder(files: Path) -> None:
    with pytest.raises(InputError):
        api.prepare("notes.txt", "a/b/c")
    assert not Path("a").exists()
