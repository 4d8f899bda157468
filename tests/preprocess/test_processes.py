"""Work on frames in processes of its own."""

import operator
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from emotalking.errors import InputError
from emotalking.io.files import write_bytes
from emotalking.preprocess import processes as module
from emotalking.preprocess.processes import Process, with_processes
from emotalking.preprocess.steps import map_frames, one_thread


@pytest.fixture(scope="module")
def process() -> Iterator[Process]:
    process = Process()
    yield process
    process.close()


def test_a_function_is_sent_once(process: Process) -> None:
    assert process.call(1, pickle.dumps(operator.sub), 5, 3) == 2
    assert process.call(1, b"not looked at", 7, 3) == 4


def test_an_exception_comes_back_and_the_process_goes_on(process: Process) -> None:
    with pytest.raises(ZeroDivisionError):
        process.call(2, pickle.dumps(operator.truediv), 5, 0)
    assert process.call(2, pickle.dumps(operator.truediv), 6, 2) == 3


def test_a_file_that_cannot_be_written_is_told(process: Process, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        process.call(4, pickle.dumps(write_bytes), tmp_path / "file" / "a.png", b"")
    assert process.call(4, b"", tmp_path / "a.png", b"content") is None
    assert (tmp_path / "a.png").read_bytes() == b"content"


def test_printing_does_not_disturb_the_results(process: Process) -> None:
    assert process.call(3, pickle.dumps(print), 6, 2) is None


def test_results_come_in_order_from_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_THREADS", 0)
    monkeypatch.setattr(module, "allowed_cores", lambda: 1)
    with with_processes():
        assert list(map_frames([10, 20, 30], operator.add)) == [10, 21, 32]
        pool = module.processes()
        assert pool is not None
        (started,) = pool._started
        assert started._process.pid != os.getpid()
        started._process.kill()
        with pytest.raises(InputError, match="too little memory"):
            list(map_frames([1], operator.add))
    assert module.processes() is None


def test_a_few_cores_need_no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "allowed_cores", lambda: module.MOST_THREADS)
    with with_processes():
        assert module.processes() is None
        assert list(map_frames("ab", lambda index, letter: letter * index)) == ["", "b"]


def test_one_thread_is_given_back() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
            assert list(map_frames([2, 3], operator.mul)) == [0, 3]
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
