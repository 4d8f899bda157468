"""How soon does the first frame of ``emotalking render`` come, and how long do ``--help`` and ``info`` take?

python benchmarks/start_up.py AVATAR SOUND [--against OTHER_SRC] [--repeats 7] [--only NAME ...] [--name start_up]
    [--out FOLDER]

Each command runs in a process of its own on the CPU; --against is the package of another commit, which takes turns with
this one. Seconds of waiting, and of the processors' work, which other work on the machine hardly changes, until the
first frame is written to a folder of frames (the other commands: until their end).
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from _report import arguments, write

LONGEST_S = 300.0
_TICKS = os.sysconf("SC_CLK_TCK")


def commands(avatar: Path, sound: Path, frames: Path) -> dict[str, list[str]]:
    """Arguments of each command."""
    shown = ["--audio", str(sound), "--frames-folder", str(frames), "--seconds", "1", "--device", "cpu"]
    return {
        "render": ["render", str(avatar), *shown],
        "info": ["info", str(avatar)],
        "help": ["--help"],
        "render help": ["render", "--help"],
    }


def _work(pid: int) -> float:
    """Seconds of the processors that a running process took."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def run(source: Path, arguments: list[str], frames: Path | None) -> dict[str, float]:
    """Start a command of the package in ``source`` and time it to its first frame or its end.

    Raises:
        RuntimeError: it failed, or there was no frame.
    """
    begun = time.perf_counter()
    env = os.environ | {"PYTHONPATH": str(source)}
    process = subprocess.Popen(
        [sys.executable, "-m", "emotalking", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env
    )
    if frames is not None:
        while process.poll() is None and not any(frames.glob("[!.]*.png")) and time.perf_counter() - begun < LONGEST_S:
            time.sleep(0.002)
        took = {"wait_s": time.perf_counter() - begun, "cpu_s": _work(process.pid)}
        errors = process.communicate()[1]
    else:
        errors = process.communicate()[1]
        took = {"wait_s": time.perf_counter() - begun}
    if process.returncode or (frames is not None and not any(frames.iterdir())):
        raise RuntimeError(f"{arguments}: {errors.decode()[-500:]}")
    return took


def main() -> None:
    """Measure and write the report."""
    args = arguments(__doc__)
    sources = {"this": Path(__file__).parents[1] / "src"}
    if args.against is not None:
        sources["other"] = args.against
    rows: dict[str, dict[str, list[dict[str, float]]]] = {}
    for repeat in range(args.repeats + 1):  # the first fills the caches of files
        for version, source in sources.items():
            with tempfile.TemporaryDirectory() as folder:
                frames = Path(folder) / "frames"
                for name, words in commands(args.avatar, args.sound, frames).items():
                    if args.only and name not in args.only:
                        continue
                    took = _watched(source, words, frames if name == "render" else None)
                    if repeat:
                        rows.setdefault(name, {}).setdefault(version, []).append(took)
    results: dict[str, Any] = {
        name: {version: _summary(each) for version, each in versions.items()} for name, versions in rows.items()
    }
    for name, versions in results.items():
        print(name, versions, flush=True)
    write(args.name, results, args.out)


def _watched(source: Path, words: list[str], frames: Path | None) -> dict[str, float]:
    before = os.times()
    took = run(source, words, frames)
    after = os.times()
    whole = after.children_user + after.children_system - before.children_user - before.children_system
    return {"cpu_s": whole, **took}


def _summary(rows: list[dict[str, float]]) -> dict[str, float]:
    waits, work = [row["wait_s"] for row in rows], [row["cpu_s"] for row in rows]
    return {"best_wait_s": min(waits), "median_wait_s": median(waits), "median_cpu_s": median(work)}


if __name__ == "__main__":
    main()
