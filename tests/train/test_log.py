"""The run's record: what it reads back, what a resumed run takes out, and what it refuses."""

import json
from pathlib import Path

import pytest

from emotalking.errors import InputError
from emotalking.train.callbacks.log import LOG, RunLog, of_kind, until
from emotalking.train.callbacks.rows import read_log


def write(folder: Path) -> RunLog:
    log = RunLog(folder)
    log.add("run", resumed=None)
    for stage in ("mouth", "face"):
        log.add("stage", stage=stage, iterations=60)
        for iteration in (20, 40, 60):
            log.add("step", stage=stage, iteration=iteration, loss=0.5)
    log.add("warning", stage="face", name="x", iteration=60, text="y")
    log.add("end", outcome="interrupted")
    return log


def test_rows_read_back_as_they_were_written(tmp_path: Path) -> None:
    log = write(tmp_path)
    assert read_log(tmp_path / LOG) == log.rows
    assert [row["iteration"] for row in of_kind(log.rows, "step", "face")] == [20, 40, 60]
    assert RunLog(tmp_path).rows == [] and read_log(tmp_path / LOG) == []


@pytest.mark.parametrize(("stage", "iteration", "left"), [("mouth", 40, 2), ("face", 0, 3), ("face", 40, 5)])
def test_a_resumed_run_takes_out_what_will_come_again(tmp_path: Path, stage: str, iteration: int, left: int) -> None:
    write(tmp_path)
    log = RunLog(tmp_path, (stage, iteration))
    assert len(of_kind(log.rows, "step")) == left
    assert of_kind(log.rows, "warning") == [] and len(of_kind(log.rows, "run")) == len(of_kind(log.rows, "end")) == 1
    assert len(of_kind(log.rows, "stage")) == (1 if stage == "mouth" else 2)
    assert read_log(tmp_path / LOG) == log.rows


def test_a_checkpoint_of_the_last_row_takes_nothing_out(tmp_path: Path) -> None:
    rows = write(tmp_path).rows
    assert until(rows, "face", 60) == rows


def test_a_line_cut_off_by_a_crash_is_left_out_and_a_damaged_one_named(tmp_path: Path) -> None:
    rows, path = write(tmp_path).rows, tmp_path / LOG
    path.write_text(path.read_text() + '{"kind": "st')
    assert read_log(path) == rows
    assert RunLog(tmp_path, ("face", 60)).rows == rows
    path.write_text("{broken\n" + path.read_text())
    with pytest.raises(InputError, match="Line 1 of"):
        read_log(path)
    path.write_text(json.dumps({"stage": "face", "loss": 0.1}) + "\n")
    with pytest.raises(InputError, match="another version"):
        read_log(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_log(tmp_path / "nothing" / LOG)


def test_a_record_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    log = write(tmp_path / "run")
    (tmp_path / "run" / LOG).unlink()
    (tmp_path / "run" / LOG).mkdir()
    with pytest.raises(InputError, match="free some space and resume"):
        log.add("step", stage="face", iteration=80)
