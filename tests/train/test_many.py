"""Many subjects over many devices: finished ones are kept, broken ones stop nobody, and a page tells of all."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from emotalking import progress
from emotalking.cli.main import main
from emotalking.data import Subject
from emotalking.errors import UserError
from emotalking.train import many, run
from emotalking.train import workers as processes
from emotalking.train.callbacks.log import LOG, Row
from emotalking.train.many import TrainManyResult, train_many
from emotalking.train.workers import WorkerPool

pytestmark = pytest.mark.usefixtures("one_thread")
SHORT = """model.face.initial_points=120 model.mouth.initial_points=40 mouth.iterations=4 mouth.warmup=1
face.iterations=4 face.warmup=1 model.emotion.branch=none finetune.iterations=2 audio_pretraining=2 motion_pretraining=2
closed_mouth_code=2""".split()


class Here:
    """Runs the commands in this process, and keeps them."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, str]] = []

    def __call__(self, arguments: Sequence[str], device: str, log: Path | None) -> str | None:
        assert arguments[0] == "train" and log is not None
        self.commands.append((Path(arguments[1]).name, device))
        try:
            run.train(arguments[1], arguments[3], arguments[5], "cpu", list(arguments[7::2]))
        except UserError as error:
            return str(error).rstrip(".")
        return None


@pytest.fixture
def subjects(actor_subject: Subject, tmp_path: Path) -> list[Path]:
    """One that is well, and one without a table."""
    folders = [tmp_path / "subjects" / name for name in ("anna", "ben")]
    for folder in folders:
        shutil.copytree(actor_subject.files.root, folder)
    (folders[1] / "au.csv").unlink()
    return folders


def test_one_broken_subject_stops_nobody_and_what_is_finished_is_kept(
    subjects: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out, here = tmp_path / "avatars", Here()
    caplog.set_level("INFO", "emotalking")

    def made(settings: list[str]) -> TrainManyResult:
        here.commands.clear()
        return train_many(subjects, out, "tiny", settings, ["cpu", "meta", "idle"], run=here)

    first = made(SHORT)
    assert sorted(here.commands) == [("anna", "cpu"), ("ben", "meta")]
    assert "au.csv" in first.failures["ben"] and list(first.failures) == ["ben"]
    assert "left idle: idle;" in caplog.text
    anna, ben = first.table.rows
    assert anna[:2] == ("anna", "trained") and 5.0 < float(anna[2]) < 40.0 and int(anna[3]) > 100 and int(anna[4]) > 10
    assert ben == ("ben", "failed", "–", "–", "–", "–")
    shutil.copyfile(subjects[0] / "au.csv", subjects[1] / "au.csv")
    (out / "anna.safetensors.run" / "report.html").write_text("its page")
    second = made(SHORT)
    assert [name for name, _ in here.commands] == ["ben"] and not second.failures
    assert [row[1] for row in second.table.rows] == ["kept", "trained"] and second.table.rows[0][2:] == anna[2:]
    page = (out / "index.html").read_text()
    assert '<a href="anna.safetensors.run/report.html">anna</a>' in page and "2 of 2 subjects have an avatar" in page
    assert page.count("data:image/jpeg") == 2
    third = made([*SHORT, "seed=3"])
    assert not here.commands and "other settings" in third.failures["anna"]
    assert "anna: " in (out / "index.html").read_text()


def test_a_bar_that_goes_while_it_is_looked_at_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Subjects end in threads of their own."""
    with progress.bar() as shown:
        shown.disable = False
        bars = many._Bars(shown, 10, 2)
        for name in ("anna", "ben"):
            bars.begin(name, "cpu", tmp_path / f"{name}.safetensors")
            log = tmp_path / f"{name}.safetensors.run" / LOG
            log.parent.mkdir()
            log.touch()
            os.utime(log, (time.time() + 60, time.time() + 60))

        def ends_meanwhile(path: Path) -> list[Row]:
            bars.end("anna")
            return [{"kind": "step", "stage": "mouth", "iteration": 4}]

        monkeypatch.setattr(many, "read_log", ends_meanwhile)
        bars.tick()
        assert [task.completed for task in shown.tasks][1:] == [4]


def test_what_cannot_be_is_refused_before_anything_begins(
    subjects: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, out = Here(), tmp_path / "avatars"
    twin = tmp_path / "others" / "anna"
    with pytest.raises(UserError, match="have one name, 'anna'"):
        train_many([*subjects, twin], out, "tiny", SHORT, ["cpu"], run=here)
    with pytest.raises(UserError, match="names no field"):
        train_many(subjects, out, "tiny", ["colour=red"], ["cpu"], run=here)
    assert not here.commands and not out.exists()
    words = ["train-many", *map(str, subjects), "-o", str(out)]
    assert main([*words, "--devices", "cpu,cpu"]) == 2
    assert "names a device twice" in capsys.readouterr().err


def test_the_command_ends_with_2_and_a_sentence_for_each_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self: WorkerPool, arguments: Sequence[str], device: str, log: Path | None) -> str:
        return f"{Path(arguments[1]).name} is broken"

    monkeypatch.setattr(WorkerPool, "run", fail)
    words = ["train-many", str(tmp_path / "a"), str(tmp_path / "b"), "-o", str(tmp_path / "out"), "--devices", "cpu"]
    assert main(words) == 2
    shown = capsys.readouterr()
    assert "| a | failed |" in shown.out
    lines = shown.err.splitlines()
    assert "a: a is broken" in lines and "b: b is broken" in lines
    assert lines[-1].startswith("emotalking: error: a, b could not be trained")


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


def test_ctrl_c_has_every_process_save_and_begins_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(processes, "COMMANDS", "sleeper")
    monkeypatch.setattr(processes, "_TICK", 0.01)
    pool, failures = WorkerPool(["cpu", "cuda:7"]), []

    def work(name: str, device: str) -> None:
        failures.append(pool.run([str(tmp_path / name)], device, tmp_path / f"{name}.log"))

    def press() -> None:
        if len(list(tmp_path.glob("*.began"))) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pool.spread(["bad", "one", "two", "three"], work, press)
    assert failures[0] == "It is bad"
    saved = {path.stem: path.read_text() for path in tmp_path.glob("*.saved")}
    assert sorted(saved.values()) == ["--device cpu", "--device cuda"]
    assert "three" not in saved and not (tmp_path / "three.began").exists()


def test_a_process_ends_with_its_parent(tmp_path: Path) -> None:
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    code = f"""
import os, sys
sys.path.insert(0, {str(tmp_path)!r})
os.environ["PYTHONPATH"] = {str(tmp_path)!r}
from pathlib import Path
from emotalking.train.workers import Worker
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
    child = processes.Worker("sleeper", [str(tmp_path / "one")], "cpu", tmp_path / "log")
    assert child.wait() is None
    child._process.kill()
    code = child.wait(None)
    assert code is not None and child.failure(code) == "it was killed by SIGKILL"
    child.stop()
