"""Common parts of the benchmarks: repeated timing, and a JSON report with the environment."""

import argparse
import json
import keyword
import math
import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import torch

from emotalking.evaluate.provenance import code, machine

RESULTS = Path(__file__).parent / "results"


def arguments(about: str | None) -> argparse.Namespace:
    """Arguments as the usage in a script's docstring has them: from ``python benchmarks/`` to the next empty line.

    ``FOLDER`` is a path, ``N`` an int, ``X`` a float; ``NAME`` and what has ``=`` or ``,`` in it are text.
    ``[--frames 8]`` has a default of its type, ``[--part width|opening]`` choices, the first of them the default. What
    ends in ``...`` is a list, and ``CLIP ...`` alone is called ``clips``. PyTorch and OpenCV get ``--threads``.
    """
    usage = re.split(r"\n\s*(?:\n|$)", (about or "").partition("python benchmarks/")[2])[0].split(maxsplit=1)
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = re.findall(r"\[(.+?)\]|(--\S+ \S+(?: \.\.\.)?|\S+(?: \.\.\.)?)", " ".join("".join(usage[1:]).split()))
    for optional, required in parts:
        flag, *values = (optional or required).removesuffix(" ...").split()
        many: dict[str, Any] = {"nargs": "*" if optional else "+"} if f"{optional}{required}".endswith(" ...") else {}
        if not flag.startswith("--"):
            name = flag.rpartition("=")[2].lower() + "s" * bool(many)
            parser.add_argument(name, metavar=flag, type=_kind(flag), **many)
            continue
        name = flag[2:].replace("-", "_")
        option: dict[str, Any] = {"dest": f"{name}_" if keyword.iskeyword(name) else name, "required": not optional}
        if not values:
            parser.add_argument(flag, action="store_true", **option)
        elif values[0][0].isupper():
            more = {"action": "extend", "default": []} if many else {}
            parser.add_argument(flag, metavar=values[0], type=_kind(values[0]), **option, **many, **more)
        elif "|" in values[0]:
            choices = values[0].split("|")
            parser.add_argument(flag, choices=choices, default=choices[0], **option)
        else:
            defaults = [_read(value) for value in values]
            default = defaults if many else defaults[0]
            parser.add_argument(flag, type=type(defaults[0]), default=default, **option, **many)
    found = parser.parse_args()
    if "threads" in found:
        found.threads = found.threads or torch.get_num_threads()
        torch.set_num_threads(found.threads)
        cv2.setNumThreads(found.threads)
    return found


def _kind(placeholder: str) -> type:
    """Type of what stands for ``placeholder``."""
    kinds = {"N": int, "X": float, "NAME": str}
    return kinds.get(placeholder, str if set("=,") & set(placeholder) else Path)


def _read(text: str) -> int | float | str:
    """A default as its type."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


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


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write(name: str, results: dict[str, Any], folder: Path | None = None) -> Path:
    """Write ``NAME.json`` into the folder, by default ``RESULTS`` (under a temporary name first); its path.

    What is not finite becomes null: JSON has no NaN.
    """
    folder = folder or RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    scratch = path.with_suffix(f".{os.getpid()}.tmp")
    report = _finite({"benchmark": name, "environment": environment(), "results": results})
    scratch.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n")
    os.replace(scratch, path)
    return path
