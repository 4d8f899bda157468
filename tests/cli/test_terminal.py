"""What reaches the terminal, errors of the operating system of every kind, and signals."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from emotalking import api
from emotalking.cli.commands import info
from emotalking.cli.main import load, main
from emotalking.errors import InputError, printable

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202ereversed\r"


def run(words: list[str], **options: object) -> "subprocess.CompletedProcess[bytes]":
    code = "import sys; from emotalking.cli.main import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, timeout=120, check=False, **options
    )  # type: ignore[call-overload]


def test_printable() -> None:
    assert printable("plain ümlaut 中\n\ttext") == "plain ümlaut 中\n\ttext"
    assert (
        printable("\x1b[31m") == "\\x1b[31m" and printable("a\udce9b") == "a\\xe9b" and printable("\u202e") == "\\u202e"
    )
    assert not {"\x1b", "\x07", "\x9b", "\u202e", "\r"} & set(printable(EVIL))


def test_control_characters_of_names_and_metadata_are_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(info.api, "info", lambda path: {EVIL: {"name": EVIL, "list": [EVIL]}})
    assert main(["info", "x"]) == 0
    assert main(["check", f"no{EVIL}where.mp4"]) == 2
    said = capsys.readouterr()
    for text in (said.out, said.err):
        assert "reversed" in text and not {"\x1b", "\x07", "\x9b", "\u202e", "\r"} & set(text)


def test_info_leaves_hundreds_of_lines_to_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        info.api, "info", lambda path: {"provenance": {"fps": 25, "steps": {"check": {"seconds": 8.8}}}}
    )
    assert main(["info", "x"]) == 0
    assert capsys.readouterr().out == "provenance\n  fps  25\n  steps  (shown by --json)\n"
    assert main(["info", "x", "--json"]) == 0
    assert "8.8" in capsys.readouterr().out


@pytest.mark.parametrize(("preset", "warned"), [("fast", True), ("tiny", False)])
def test_a_preset_for_a_gpu_on_a_cpu(
    preset: str, warned: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(**_: object) -> None:
        raise InputError("no such subject")

    load("train")  # its options are read from the function before it is replaced
    monkeypatch.setattr(api, "train", refuse)
    assert main(["train", "subject", "-o", "a.safetensors", "--preset", preset, "--device", "cpu"]) == 2
    assert ("may take hours on a CPU" in capsys.readouterr().err) == warned


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8", "shift_jis"])
def test_terminals_of_any_encoding(encoding: str, tmp_path: Path) -> None:
    name = os.fsencode("中 ü ") + b"\xe9.mp4"  # as an unknown command: the others import PyTorch first
    done = run([os.fsdecode(name)], cwd=tmp_path, env={**os.environ, "PYTHONIOENCODING": encoding})
    assert done.returncode == 2 and done.stderr.count(b"emotalking: error: ") == 1 and b"Traceback" not in done.stderr
    assert b"\\xe9.mp4" in done.stderr
    assert run(["--help"], env={**os.environ, "PYTHONIOENCODING": encoding}).returncode == 0


SYSTEM_ERRORS = [
    *(OSError(code, os.strerror(code), name) for code in errno.errorcode for name in (None, "some/file")),
    OSError(98765, "", "some/file"),
    OSError(),
    OSError("only words"),
    OSError(None, None, "some/file"),
    OSError(errno.ENOENT, "No such file", b"some/\xe9"),
    MemoryError(),
    RuntimeError("Could not determine home directory."),
    InputError("one\nsentence"),
]


def test_every_error_of_the_system_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(SYSTEM_ERRORS) > 200
    for error in SYSTEM_ERRORS:
        if isinstance(error, BrokenPipeError):  # "| head" has seen enough
            continue

        def fail(*args: object, error: Exception = error, **kwargs: object) -> None:
            raise error

        monkeypatch.setattr(info.api, "info", fail)
        assert main(["info", "x"]) == 2
        said = capsys.readouterr().err
        assert said.startswith("emotalking: error: ") and said.count("\n") == 1 and "None" not in said, error


def test_reading_is_not_called_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret").touch()
    error = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "secret"))

    def fail(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(info.api, "info", fail)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert main(["info", "x"]) == 2
    assert "secret cannot be read: Permission denied: check its permissions" in capsys.readouterr().err


def test_a_full_disk_behind_standard_output(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        code = "import sys; from emotalking.cli.main import main; sys.exit(main())"
        done = subprocess.run([sys.executable, "-c", code, "models"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert b"No space left" in done.stderr and b"Traceback" not in done.stderr


def test_closed_streams() -> None:
    code = "import sys; from emotalking.cli.main import main; sys.exit(main())"
    for closed in (">&-", "2>&-", ">&- 2>&-", "<&-"):
        for words, status in (("models", 0), ("nowhere", 2)):
            command = f'"{sys.executable}" -c "{code}" {words} {closed}'
            assert subprocess.run(["sh", "-c", command], capture_output=True, check=False).returncode == status, closed


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_a_polite_kill_removes_unfinished_files(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from emotalking import api; from emotalking.cli.main import main\n"
        "from emotalking.cli.commands import info; from emotalking.io.files import replacing\n"
        "def work(path):\n"
        "    with replacing(Path(path)): print('begun', file=sys.stderr, flush=True); time.sleep(600)\n"
        "api.info = work; sys.exit(main())"
    )
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:  # as under nohup
            continue
        words = [sys.executable, "-c", code, "info", str(tmp_path / "a")]
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None and process.stderr.readline() == "begun\n"
            process.send_signal(number)
            assert process.wait() == 128 + number and "interrupted" in process.stderr.read()
        assert not list(tmp_path.iterdir())
