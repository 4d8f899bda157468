"""Jobs on a Ray cluster of several nodes on this machine: what is lost begins anew, what is finished does not."""

import importlib.util
import os
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from emotalking.cores import allowed_cores
from emotalking.errors import InputError
from emotalking.jobs import ray_engine
from emotalking.jobs.config import JobsConfig
from emotalking.jobs.engine import Sequential, open_engine
from emotalking.jobs.job import Job, Outcome

from . import work
from .work import job

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray: emotalking[cluster]")
STORE = 80 << 20


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A head without cores, and three machines of one core each."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{Path(__file__).parents[2]}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        head = {"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        cluster.workers = [cluster.add_node(num_cpus=1, object_store_memory=STORE) for _ in range(3)]
        yield cluster
        cluster.shutdown()


def states(outcomes: list[Outcome]) -> dict[str, str]:
    return {one.name: one.state for one in outcomes}


def test_what_is_lost_begins_anew_and_what_is_finished_does_not(nodes: Any, tmp_path: Path) -> None:
    jobs = [job(tmp_path, f"plain{number}", work.write, number) for number in range(4)]
    jobs += [
        job(tmp_path, "killed", work.die_once),
        job(tmp_path, "large", work.fill_memory, 1),
        job(tmp_path, "too_large", work.fill_memory, 99),
        job(tmp_path, "refused", work.refuse),
        job(tmp_path, "broken", work.break_down),
    ]
    config = JobsConfig(address=nodes.address, retries=2)
    with open_engine(config, "auto") as engine:
        assert engine.device == "cpu"
        outcomes = engine.run(jobs)
        assert [one.name for one in outcomes] == [one.name for one in jobs]
        failed = {one.name: one.why for one in outcomes if one.state == "failed"}
        assert failed == {
            "too_large": "the memory is full",
            "refused": f"{tmp_path / 'refused'} lacks a table",
            "broken": "ZeroDivisionError: division by zero",
        }
        assert (tmp_path / "killed").read_text() == "resumed 1"
        assert (tmp_path / "too_large.tried").read_text() == "xxx"
        assert states(engine.run(jobs[:5])) == dict.fromkeys([one.name for one in jobs[:5]], "kept")
    assert {path.read_text() for path in tmp_path.glob("*.times")} == {"made\n"}
    alone = tmp_path / "alone"
    alone.mkdir()
    Sequential("cpu").run([job(alone, f"plain{number}", work.write, number) for number in range(4)])
    assert [(alone / f"plain{n}").read_bytes() for n in range(4)] == [
        (tmp_path / f"plain{n}").read_bytes() for n in range(4)
    ]


def test_a_lost_machine_takes_its_job_to_another(nodes: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "emotalking")
    gate = tmp_path / "gate"
    jobs = [job(tmp_path, f"job{number}", work.wait_for, gate) for number in range(3)]

    def kill(victim: Any) -> None:
        while len(list(tmp_path.glob("*.began"))) < 3:
            time.sleep(0.01)
        nodes.remove_node(victim, allow_graceful=False)
        end_s = time.monotonic() + 120
        while len(list(tmp_path.glob("*.began"))) == 3 and time.monotonic() < end_s:
            time.sleep(0.01)
        gate.touch()  # not before the job runs elsewhere: processes of a lost machine may live for a moment

    with open_engine(JobsConfig(address=nodes.address), "cpu") as engine:
        import ray

        own = ray.get_runtime_context().get_node_id()  # with it, this process would end
        victim = next(node for node in nodes.workers if node.node_id != own)
        killer = threading.Thread(target=kill, args=(victim,))
        killer.start()
        outcomes = engine.run(jobs)
        killer.join()
    assert caplog.text.count("was lost") == 1 and "begins anew" in caplog.text
    assert set(states(outcomes).values()) <= {"made", "kept"}
    assert {path.read_text() for path in tmp_path.glob("*.times")} == {"made\n"}


def test_ctrl_c_has_every_job_save_and_begins_no_more(
    nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [job(tmp_path, f"job{number}", work.wait_for, tmp_path / "never") for number in range(5)]

    def press(self: object) -> None:
        if len(list(tmp_path.glob("*.began"))) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(ray_engine._Table, "tick", press)
    with open_engine(JobsConfig(address=nodes.address, workers=2), "cpu") as engine:
        with pytest.raises(KeyboardInterrupt):
            engine.run(jobs)
        assert len(list(tmp_path.glob("*.saved"))) == 2 == len(list(tmp_path.glob("*.began")))


def test_machines_are_told_apart_from_ours(nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unseen = Job("a", tmp_path / "a", partial(work.write, tmp_path / "a"), tmp_path / "unseen" / "a.log")
    with open_engine(JobsConfig(address=nodes.address), "cpu") as engine:
        assert "does not see the folder" in engine.run([unseen])[0].why
        monkeypatch.setattr(ray_engine, "__version__", "9.9")
        assert "instead of 9.9: install the same there" in engine.run([job(tmp_path, "b", work.write)])[0].why


def test_progress_of_running_jobs_is_shown(nodes: Any, tmp_path: Path) -> None:
    from emotalking import progress

    shown: list[str] = []
    gate = tmp_path / "gate"
    progress.on_progress(lambda done, total, what: shown.append(f"{what} {done:.0f}"))
    waiting, end_s = job(tmp_path, "slow", work.wait_for, gate), time.monotonic() + 120

    def end(self: Any) -> None:
        tick(self)
        if any(one.startswith("slow") and not one.endswith(" 0") for one in shown) or time.monotonic() > end_s:
            gate.touch()

    tick = ray_engine._Table.tick
    with pytest.MonkeyPatch.context() as patch, open_engine(JobsConfig(address=nodes.address), "cpu") as engine:
        patch.setattr(ray_engine._Table, "tick", end)
        assert states(engine.run([waiting])) == {"slow": "made"}
    progress.on_progress(None)
    assert shown[-1] == "jobs 1" and any(one.startswith("slow") and not one.endswith(" 0") for one in shown)


def test_a_local_ray_starts_by_itself_and_tells_for_what_it_has_no_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The last one: actors of a cluster that a process joins after a Ray of its own never start (Ray 2.60)."""
    caplog.set_level("INFO", "emotalking")
    cores, before = allowed_cores(), signal.getsignal(signal.SIGTERM)
    with open_engine(JobsConfig(workers=cores + 1, cpus=1), "cpu") as engine:
        assert f"{cores} jobs at once, as there is no room for more of 1 cores each" in caplog.text
        assert states(engine.run([job(tmp_path, "a", work.write)])) == {"a": "made"}
        assert isinstance(engine, ray_engine.RayEngine) and signal.getsignal(signal.SIGTERM) is before
        engine._config = JobsConfig(workers=2, cpus=1, gpus=3)
        with pytest.raises(InputError, match="no room for a job of 1 cores and 3 GPUs"):
            engine.check_room()
