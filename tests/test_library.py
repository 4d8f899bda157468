"""The package inside other programs: any system, quiet, and no argument of theirs read."""

import ast
import logging
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import emotalking
from emotalking import progress
from emotalking.io.files import replacing

SOURCE = Path(__file__).parents[1] / "src" / "emotalking"

WITHOUT_POSIX = """
import importlib, os, pathlib, sys
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
os.umask = None
folder = pathlib.Path(sys.argv[1])
for path in sorted(folder.rglob("*.py")):
    parts = path.relative_to(folder.parent).with_suffix("").parts
    if parts[-1] != "__main__":
        importlib.import_module(".".join(parts).removesuffix(".__init__"))
from emotalking.io.files import write_bytes
write_bytes(pathlib.Path(sys.argv[2]) / "a", b"1")
"""


def test_every_module_imports_without_posix_modules(tmp_path: Path) -> None:
    """As on Windows; ``os.umask`` would change the whole process, threads of others included."""
    installed = Path(emotalking.__file__).parents[1]
    command = [sys.executable, "-c", WITHOUT_POSIX, str(installed / "emotalking"), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "a").read_bytes() == b"1"


def test_written_files_have_the_permissions_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "a.txt") as scratch:
            scratch.unlink()
            scratch.touch(mode=0o600)  # as safetensors does
        assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640
    finally:
        os.umask(before)


def test_no_module_below_the_command_line_reads_arguments_or_prints() -> None:
    found = []
    for path in SOURCE.rglob("*.py"):
        name = path.relative_to(SOURCE).as_posix()
        if name.startswith("cli/") or name in ("__main__.py", "progress.py", "serve/worker.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            argv = isinstance(node, ast.Attribute) and node.attr == "argv"
            prints = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
            if argv or prints:
                found.append(f"{name}:{node.lineno}")
    assert not found


def test_progress_is_silent_until_it_is_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress.console, "_force_terminal", True)
    logger = logging.getLogger("emotalking.train")
    assert list(progress.track(range(3), "work")) == [0, 1, 2]
    logger.info("said")
    assert capsys.readouterr().err == ""
    with progress.shown(), progress.shown():
        list(progress.track(range(3), "work"))
        logger.info("a [b] c")
        logger.warning("odd")
    shown = capsys.readouterr().err
    assert "3/3" in shown and shown.count("a [b] c") == 1 and "warning: odd" in shown
    logger.info("said")
    assert capsys.readouterr().err == ""


def test_a_callback_is_told_the_progress() -> None:
    told: list[tuple[float, float | None, str]] = []
    progress.on_progress(lambda *state: told.append(state))
    try:
        list(progress.track("ab", "work"))
    finally:
        progress.on_progress(None)
    assert told == [(1, 2, "work"), (2, 2, "work")]
