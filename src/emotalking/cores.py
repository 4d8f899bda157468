"""Cores that this process may use and that are free, OpenMP's threads on them, and the memory that these keep.

PyTorch computes with libgomp on Linux. Its threads spin at the end of every parallel loop, up to milliseconds, waiting
for the last of them; where another program has that one's core, all spin until the scheduler gives it back. A training
beside other programs stood for minutes so (``benchmarks/shared_cores.py``).
"""

import ctypes
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

SPINS = 1000
"""Turns that a thread of libgomp waits before it sleeps; its own default is 300,000."""
_granted = float("inf")
_SHORTEST_S = 0.05
"""Time without which nothing is known about other programs; the kernel counts in hundredths of a second."""


class Usage(NamedTuple):
    """Use of the cores up to a moment."""

    time_s: float
    idle_s: float | None
    """Idle time of the allowed cores, summed; None where the system does not tell."""
    own_s: float
    """Processor time of this process."""


def allowed_cores(root: Path = Path("/")) -> int:
    """Cores that this process may use: of its affinity, its control group's quota, and :func:`use_at_most`.

    Args:
        root: of the file system, for tests.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(cores, _quota(root), _granted)))


def use_at_most(cores: int) -> None:
    """Have :func:`allowed_cores` of this process be at most so many from now on: others use the rest."""
    global _granted  # noqa: PLW0603
    _granted = cores


def _quota(root: Path) -> float:
    """Cores that the control groups of this process grant; infinity without a limit."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return float("inf")
    granted: list[float] = [float("inf")]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            granted.append(_limit(folder))
            if folder == top:
                break
    return min(granted)


def _limit(folder: Path) -> float:
    """Quota of one control group (version 2, else version 1)."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        except OSError:
            return float("inf")
    return float(quota) / float(period) if quota.strip() not in ("max", "-1") else float("inf")


def usage(root: Path = Path("/")) -> Usage:
    """Use of the cores until now."""
    own = time.process_time()
    try:
        allowed = os.sched_getaffinity(0)
        rows = [line.split() for line in (root / "proc/stat").read_text().splitlines() if line.startswith("cpu")]
        idle = sum(int(row[4]) + int(row[5]) for row in rows if row[0][3:] and int(row[0][3:]) in allowed)
        return Usage(time.monotonic(), idle / os.sysconf("SC_CLK_TCK"), own)
    except (OSError, AttributeError, ValueError, IndexError):
        return Usage(time.monotonic(), None, own)


def free_cores(before: Usage, now: Usage, allowed: int) -> int:
    """Cores that other programs left free between two moments, at least 1; ``allowed`` where that is not known."""
    passed = now.time_s - before.time_s
    if before.idle_s is None or now.idle_s is None or passed < _SHORTEST_S:
        return allowed
    free = (now.idle_s - before.idle_s + now.own_s - before.own_s) / passed
    return max(1, min(allowed, round(free)))


def share_cores(before: Usage) -> None:
    """Choose OpenMP's threads and how they wait, before PyTorch and NumPy are loaded; what the user has set stays.

    Args:
        before: of the beginning of the process.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(free_cores(before, usage(), allowed_cores())))
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
        os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")  # 2^4 cycles; NumPy's own default is 2^26


def keep_memory() -> None:
    """Have glibc keep what is freed for the next allocation, up to 1 GiB; other C libraries stay as they are.

    It gives large blocks back to the system, which clears each page of them again when it is touched: a step of `tiny`
    on a CPU took a twentieth longer.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3  # malloc.h
        mallopt(trim_threshold, 2**30)
        mallopt(mmap_threshold, 2**25)  # the most that every version takes
