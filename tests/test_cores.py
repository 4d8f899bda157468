"""Cores that are allowed and free, and the line that breaks a silence."""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from emotalking import cores, progress
from emotalking.cores import Usage, allowed_cores, free_cores, keep_memory, share_cores, usage


def group(root: Path, path: str, **files: str) -> None:
    """A control group, version 2."""
    folder = root / "sys/fs/cgroup" / path.lstrip("/")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(text)


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


@pytest.mark.usefixtures("eight_cores")
def test_the_smallest_quota_above_this_process_counts(tmp_path: Path) -> None:
    assert allowed_cores(tmp_path) == 8
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/a/b\n")
    group(tmp_path, "/a/b", cpu_max="max 100000\n")
    assert allowed_cores(tmp_path) == 8
    group(tmp_path, "/a", cpu_max="250000 100000\n")
    assert allowed_cores(tmp_path) == 2
    group(tmp_path, "/", cpu_max="50000 100000\n")
    assert allowed_cores(tmp_path) == 1


@pytest.mark.usefixtures("eight_cores")
def test_quotas_of_the_older_version_count(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("3:memory:/x\n2:cpu,cpuacct:/x\n")
    folder = tmp_path / "sys/fs/cgroup/cpu/x"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text("300000\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    assert allowed_cores(tmp_path) == 3
    (folder / "cpu.cfs_quota_us").write_text("-1\n")
    assert allowed_cores(tmp_path) == 8


@pytest.mark.parametrize(
    ("passed_s", "idle_s", "own_s", "free"),
    [
        (1.0, 3.0, 1.0, 4),
        (1.0, 0.0, 0.4, 1),
        (1.0, 1.6, 0.9, 2),
        (2.0, 1.0, 2.0, 2),
        (0.01, 0.0, 0.01, 4),
        (1.0, 9.0, 0.0, 4),
    ],
)
def test_free_cores_are_the_idle_ones_and_our_own(passed_s: float, idle_s: float, own_s: float, free: int) -> None:
    assert free_cores(Usage(5.0, 7.0, 1.0), Usage(5.0 + passed_s, 7.0 + idle_s, 1.0 + own_s), 4) == free
    assert free_cores(Usage(0.0, None, 0.0), Usage(1.0, None, 1.0), 4) == 4


def test_the_kernels_counters_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 2}, raising=False)
    assert usage(tmp_path).idle_s is None
    (tmp_path / "proc").mkdir()
    rows = ["cpu  9 9 9 999 9", "cpu0 1 1 1 500 1", "cpu1 1 1 1 300 20", "cpu2 1 1 1 100 5", "intr 1"]
    (tmp_path / "proc/stat").write_text("\n".join(rows))
    monkeypatch.setattr(os, "sysconf", lambda name: 100, raising=False)
    assert usage(tmp_path).idle_s == pytest.approx(4.25)


def test_threads_are_chosen_unless_the_user_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(cores, "allowed_cores", lambda: 6)
    monkeypatch.setattr(cores, "usage", lambda: Usage(11.0, 3.0, 0.5))
    share_cores(Usage(10.0, 1.0, 0.0))
    assert os.environ == {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "1000", "OPENBLAS_THREAD_TIMEOUT": "4"}
    monkeypatch.setattr(os, "environ", {"OMP_NUM_THREADS": "5", "OMP_WAIT_POLICY": "active"})
    share_cores(Usage(10.0, 1.0, 0.0))
    assert os.environ == {"OMP_NUM_THREADS": "5", "OMP_WAIT_POLICY": "active"}


def test_torch_computes_with_the_chosen_threads() -> None:
    code = (
        "import sys; sys.argv = ['emotalking', 'models']; from emotalking.cli.main import main; main();"
        "import os, torch; print('threads', torch.get_num_threads(), os.environ['OMP_NUM_THREADS'])"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "MKL_"))}
    output = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True).stdout
    _, used, chosen = output.splitlines()[-1].split()
    assert used == chosen and 1 <= int(used) <= allowed_cores()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, seconds in (("FIRST_WORDS_S", 0.1), ("SILENCE_S", 0.3), ("_TICK_S", 0.02), ("_said_at", 0.0)):
        monkeypatch.setattr(progress, name, seconds)
    yield


@pytest.mark.usefixtures("impatient")
def test_a_silence_is_broken_by_what_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.shown(never_silent=True):
        time.sleep(0.25)
        with progress.doing("loading the networks"):
            time.sleep(0.6)
        for _ in progress.track(range(3), "masks"):
            time.sleep(0.25)
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("starting (") and any(line.startswith("loading the networks (") for line in said)
    assert any(line.startswith(("masks 1/3 (", "masks 2/3 (")) for line in said)


@pytest.mark.usefixtures("impatient")
def test_messages_are_words_too_and_others_are_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.shown(never_silent=True):
        for number in range(6):
            progress.logging.getLogger("emotalking").info("message %d", number)
            time.sleep(0.05)
    assert capsys.readouterr().err.splitlines() == [f"message {number}" for number in range(6)]
    with progress.shown():
        time.sleep(0.5)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("impatient")
def test_a_question_is_not_talked_over_and_transfers_are_in_megabytes(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.shown(never_silent=True):
        with progress.asking():
            time.sleep(0.5)
        assert capsys.readouterr().err == ""
        with progress.byte_bar("a.pth", 4_000_000, 1_000_000) as advance:
            advance(500_000)
            time.sleep(0.5)
    assert "a.pth 1.5 MB/4.0 MB (" in capsys.readouterr().err


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries stay as they are")
def test_freed_memory_is_kept() -> None:
    import resource

    keep_memory()
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        block = bytearray(2**24)
        assert not block[-1]
        del block
    pages = 2**24 // resource.getpagesize()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < pages / 8
