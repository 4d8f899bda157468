"""The package inside other programs: any system, quiet, and no argument of theirs read."""

import ast
import logging
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from emotalking import progress
from emotalking.io.files import replacing

SOURCE = Path(__file__).parents[1] / "src" / "emotalking"

ON_WINDOWS = """
import importlib, sys
for name in ("fcntl", "termios", "resource", "pwd", "grp"):
    sys.modules[name] = None
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def test_every_module_of_training_imports_without_modules_of_unix_alone() -> None:
    names = [
        ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted(SOURCE.rglob("*.py"))
        if path.stem != "__main__"
    ]
    subprocess.run([sys.executable, "-c", ON_WINDOWS, *names], check=True)


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
        if name.startswith("cli/") or name in ("__main__.py", "progress.py", "train/workers.py"):
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
