"""Processes of this package: they end with the process that started them, and save before."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from emotalking.serve.worker import Worker, visible_name

SLEEPER = """
import sys, time
from pathlib import Path

def main(arguments):
    here = Path(arguments[0])
    if here.name == "bad":
        sys.stderr.write("emotalking: error: It is bad.\\n")
        return 2
    (here.with_suffix(".began")).touch()
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        (here.with_suffix(".saved")).write_text(" ".join(arguments[1:]))
        return 130
"""


def test_a_process_saves_before_it_stops_and_tells_why_it_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    bad = Worker("sleeper", [str(tmp_path / "bad")], "cpu", tmp_path / "bad.log")
    one = Worker("sleeper", [str(tmp_path / "one"), visible_name("cuda:7")], "cuda:7", tmp_path / "log")
    while not (tmp_path / "one.began").exists():
        assert one.wait(0.01) is None
    one.stop()
    assert one.wait() == 130 and (tmp_path / "one.saved").read_text() == "cuda"
    code = bad.wait(None)
    assert code == 2 and bad.failure(code) == "It is bad"


def test_a_process_ends_with_its_parent(tmp_path: Path) -> None:
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    code = f"""
import os, sys
sys.path.insert(0, {str(tmp_path)!r})
os.environ["PYTHONPATH"] = {str(tmp_path)!r}
from pathlib import Path
from emotalking.serve.worker import Worker
child = Worker("sleeper", [{str(tmp_path / "one")!r}], "cpu", Path({str(tmp_path / "log")!r}))
while not Path({str(tmp_path / "one.began")!r}).exists():
    assert child.wait(0.01) is None
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    while not (tmp_path / "one.saved").exists():
        time.sleep(0.01)


def test_a_killed_process_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    child = Worker("sleeper", [str(tmp_path / "one")], "cpu", tmp_path / "log")
    assert child.wait() is None
    child._process.kill()
    code = child.wait(None)
    assert code is not None and child.failure(code) == "it was killed by SIGKILL"
    child.stop()
