"""Common parts of the benchmarks: repeated timing, and a JSON report with the environment."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from emotalking.evaluate.provenance import code, machine

RESULTS = Path(__file__).parent / "results"


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure(run: Callable[[], Any], repeats: int = 20, warmup: int = 3) -> dict[str, float]:
    """Milliseconds of ``run``: median, quartiles, best and number of repeats. CUDA work is waited for."""
    for _ in range(warmup):
        run()
    times = []
    for _ in range(repeats):
        _synchronize()
        start = time.perf_counter()
        run()
        _synchronize()
        times.append((time.perf_counter() - start) * 1e3)
    low, median, high = statistics.quantiles(times, n=4) if len(times) > 1 else times * 3
    return {"median_ms": median, "q1_ms": low, "q3_ms": high, "best_ms": min(times), "repeats": float(repeats)}


def ratio(baseline: dict[str, float], candidate: dict[str, float]) -> float:
    """Speed-up of the candidate, by the medians of the same run."""
    return baseline["median_ms"] / candidate["median_ms"]


def line(name: str, timing: dict[str, float]) -> str:
    """One row for the terminal."""
    spread = f"[{timing['q1_ms']:.2f}, {timing['q3_ms']:.2f}]"
    return f"{name:<44} {timing['median_ms']:9.2f} ms  quartiles {spread}  best {timing['best_ms']:.2f}"


def environment() -> dict[str, Any]:
    """Machine, versions and commit."""
    return {
        **machine(),
        "load_at_end": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": code()["commit"],
        "uncommitted_changes": code()["uncommitted_changes"],
    }


def peak_mb() -> int | None:
    """Most memory that this process ever held, MB; None where the system does not tell.

    Not ``getrusage``: its peak is inherited from the process that started this one.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM")), None)


def write(name: str, results: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Write ``folder/NAME.json`` (under a temporary name first) and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    scratch = path.with_suffix(f".{os.getpid()}.tmp")
    scratch.write_text(
        json.dumps({"benchmark": name, "environment": environment(), "results": results}, indent=2) + "\n"
    )
    os.replace(scratch, path)
    return path
