"""One job, and many one after another."""

import logging
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from emotalking import cores
from emotalking.errors import InputError, MissingPackageError, memory_full
from emotalking.jobs import cluster
from emotalking.jobs.config import JobsConfig
from emotalking.jobs.engine import Sequential, open_engine
from emotalking.jobs.job import Job, attempt, by_name
from emotalking.jobs.page import write_page

from . import work
from .work import job


def test_a_failure_stops_nobody_and_what_is_finished_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    level = logging.getLogger("emotalking").level
    caplog.set_level("INFO", "emotalking")
    jobs = [
        job(tmp_path, "first", work.write, 7),
        job(tmp_path, "refused", work.refuse),
        job(tmp_path, "broken", work.break_down),
        job(tmp_path, "large", work.fill_memory, 9),
        job(tmp_path, "last", work.write, 8),
    ]
    outcomes = Sequential("cpu").run(pickle.loads(pickle.dumps(jobs)))
    assert [one.state for one in outcomes] == ["made", "failed", "failed", "failed", "made"]
    assert [one.why for one in outcomes[1:4]] == [
        f"{tmp_path / 'refused'} lacks a table",
        "ZeroDivisionError: division by zero",
        "the memory is full",
    ]
    assert [one.again for one in outcomes] == [False, False, False, True, False]
    assert "last: 5 of 5" in caplog.text and "refused: failed after 0 s" in caplog.text
    assert "in break_down" in (tmp_path / "broken.log").read_text()
    assert "Traceback" not in (tmp_path / "refused.log").read_text()
    again = Sequential("cpu").run(jobs)
    assert "first: kept, finished before" in caplog.text
    assert [one.state for one in again] == ["kept", "failed", "failed", "failed", "kept"]
    assert (tmp_path / "first.times").read_text() == "made\n"
    assert logging.getLogger("emotalking").level in (level, logging.INFO)


def test_the_page_links_what_was_made_and_says_why_the_rest_was_not(tmp_path: Path) -> None:
    outcomes = [attempt(job(tmp_path, "first", work.write, 7)), attempt(job(tmp_path, "refused", work.refuse))]
    made = write_page(outcomes, tmp_path, "Things", "things are there")
    page = made.page.read_text()
    assert '<a href="first">first</a>' in page and "1 of 2 things are there" in page and "lacks a table" in page
    assert list(made.failures) == ["refused"]
    assert [row[:2] for row in made.table.rows] == [("first", "made"), ("refused", "failed")]


def test_ctrl_c_ends_all(tmp_path: Path) -> None:
    def press() -> None:
        raise KeyboardInterrupt

    jobs = [Job("a", tmp_path / "a", press, tmp_path / "a.log"), job(tmp_path, "b", work.write)]
    with pytest.raises(KeyboardInterrupt):
        Sequential("cpu").run(jobs)
    assert not (tmp_path / "b").exists()


def test_names_are_unique() -> None:
    assert list(by_name([Path("x/a"), Path("x/b")], lambda path: path.name)) == ["a", "b"]
    with pytest.raises(InputError, match="have one name, 'a'"):
        by_name([Path("x/a"), Path("y/a")], lambda path: path.name)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"workers": 0}, "workers is 0"),
        ({"retries": -1}, "retries is -1"),
        ({"gpus": -0.5}, "gpus is -0.5"),
        ({"cpus": 0}, "cpus is 0"),
        ({"memory": float("nan")}, "memory is nan"),
        ({"address": "host"}, "address 'host' cannot be joined"),
        ({"address": "ray://host:10001"}, "run the command on a machine of the cluster"),
    ],
)
def test_what_no_cluster_could_do_is_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        JobsConfig(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("address", ["auto", "head:6379", "10.0.0.1:6379", "[fd00::1]:6379"])
def test_addresses(address: str) -> None:
    assert not JobsConfig(address=address).sequential and JobsConfig().sequential and JobsConfig(workers=1).sequential


def test_without_ray_more_than_one_worker_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'emotalking\[cluster\]'"):
        with open_engine(JobsConfig(workers=2), "cpu"):
            pass
    with pytest.raises(InputError, match="names one GPU"):
        with open_engine(JobsConfig(workers=2), "cuda:1"):
            pass
    with open_engine(JobsConfig(), "cpu") as engine:
        assert isinstance(engine, Sequential) and engine.device == "cpu"


def test_a_cluster_that_cannot_be_joined_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ray:
        def is_initialized(self) -> bool:
            return False

        def init(self, address: str, **options: object) -> None:
            raise ConnectionError("no such host\nmore")

    monkeypatch.setattr(cluster, "_ray", Ray)
    with pytest.raises(InputError, match=r"cluster at head:1 cannot be joined \(no such host\): give the address"):
        with cluster.cluster("head:1"):
            pass


def test_a_process_that_shares_its_machine_uses_no_more_cores_than_it_was_given() -> None:
    code = "from emotalking import cores; cores.use_at_most(1); print(cores.allowed_cores())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"
    assert cores.allowed_cores() >= 1


def test_full_memory_is_known_by_any_name() -> None:
    full = type("OutOfMemoryError", (RuntimeError,), {})
    assert memory_full(MemoryError()) == memory_full(RuntimeError("x: can't allocate memory: y")) == "the memory"
    assert memory_full(full("CUDA")) == "the GPU's memory"
    assert memory_full(RuntimeError("other")) is None and memory_full(ValueError("Cannot allocate memory")) is None
