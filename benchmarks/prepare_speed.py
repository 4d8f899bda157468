"""Processor time of `prepare` by steps, against an earlier state in the same run, and masks by threads and processes.

    python benchmarks/prepare_speed.py CLIP ... [--seconds X] [--before SRC] [--devices auto ...] [--scale N ...]
        [--name prepare_speed] [--one FILE]

SRC is the package's folder in an earlier state. Every state prepares every clip in a process of its own, with the
threads and waiting of the command line, on each device; what the pose solver and the masks tell of their accuracy is
beside the times. --seconds uses only the beginning of each clip (which is checked as a whole). Processor time is what
counts on a machine that others use, too; a step's is without its worker processes, which are in the total. `--scale`:
frames a second of the parser's scores by so many threads, and by so many processes.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import _report


def one(clip: Path, out: Path, seconds: float | None, device: str) -> dict[str, Any]:
    """Prepare a clip here: wall-clock and processor seconds of each step."""
    from emotalking.preprocess.config import PrepareConfig
    from emotalking.preprocess.prepare import prepare
    from emotalking.preprocess.steps import Steps

    plain, steps = Steps.run, {}

    def run(self: Steps, name: str, work: Any, job: Any, *args: Any) -> None:
        def timed(job: Any) -> Any:
            wall, cpu = time.perf_counter(), time.process_time()
            facts = work(job)
            steps[name] = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
            return facts

        plain(self, name, timed, job, *args)

    setattr(Steps, "run", run)  # noqa: B010
    wall = time.perf_counter()
    manifest = prepare(clip, out, PrepareConfig(seconds=seconds, device=device)).manifest
    wall, frames = time.perf_counter() - wall, manifest["frames"]
    accuracy = {
        f"{step} {name}": value
        for step in ("pose", "masks")
        for name, value in manifest["steps"][step].items()
        if isinstance(value, float) and name != "seconds"
    }
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    total = sum(each.ru_utime + each.ru_stime for each in used)
    times = {"wall_s": wall, "cpu_s": total, "peak_mb": _report.peak_mb()}
    return {"frames": frames, **times, "steps": steps, "accuracy": accuracy}


def waiting(source: Path) -> dict[str, str]:
    """Threads of the command line of this state, and how they wait, as variables of the environment."""
    code = (
        "import json, os; from emotalking.cores import share_cores, usage; before = dict(os.environ);"
        "share_cores(usage());"
        "print(json.dumps({name: value for name, value in os.environ.items() if before.get(name) != value}))"
    )
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "OPENBLAS_"))}
    env = {**plain, "PYTHONPATH": str(source)}
    command = [sys.executable, "-c", code]
    return plain | json.loads(subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout)


def scale(subject: Path, counts: list[int], each: int = 24) -> dict[str, dict[str, float]]:
    """Frames a second of the scores of masks, by threads and by processes."""
    import cv2
    import torch

    from emotalking.data import Subject
    from emotalking.data.readers import read_subject_image
    from emotalking.preprocess import masks, processes
    from emotalking.preprocess.parsing.parser import EmbeddedParsing

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    opened = Subject.open(subject)
    chosen = masks.spread(opened.num_frames, 12)
    images = [read_subject_image(opened.files.original(i)) for i in chosen]
    points = opened.landmarks.points[chosen]
    parser = EmbeddedParsing().fit(images, points, opened.landmarks.layout)
    work = partial(masks._score, parser)
    items = list(zip(images, points, strict=True))

    def rate(call: Any, workers: int) -> float:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(lambda k: call(k, items[k % len(items)]), range(workers)))
            begin = time.perf_counter()
            list(pool.map(lambda k: call(k, items[k % len(items)]), range(each * workers)))
        return each * workers / (time.perf_counter() - begin)

    rates: dict[str, dict[str, float]] = {"threads": {}, "processes": {}}
    for count in counts:
        rates["threads"][str(count)] = rate(work, count)
        processes.allowed_cores = lambda count=count: count
        pool = processes.Processes()
        rates["processes"][str(count)] = rate(pool.remote(work), count)
        pool.close()
        print(count, {kind: round(values[str(count)], 1) for kind, values in rates.items()}, "frames/s", flush=True)
    return rates


def main() -> None:
    """Measure all clips and states."""
    args = _report.arguments(__doc__)
    if args.one:
        print(json.dumps(one(args.clips[0], args.one, args.seconds, args.devices[0])))
        return
    from emotalking.cores import allowed_cores

    results: dict[str, Any] = {"seconds": args.seconds, "cores": allowed_cores()}
    sources = {"now": Path(__file__).parents[1] / "src"} | ({"before": args.before} if args.before else {})
    runs = [(state, source, device) for state, source in sources.items() for device in args.devices]
    with tempfile.TemporaryDirectory() as work:
        for clip in args.clips:
            found = results[clip.stem] = {}
            for state, source, device in runs:
                state += "" if len(args.devices) == 1 else f" {device}"
                command = [sys.executable, __file__, str(clip), "--one", f"{work}/{clip.stem}_{state}"]
                command += ["--devices", device]
                command += [] if args.seconds is None else ["--seconds", str(args.seconds)]
                env = {**waiting(source), "PYTHONPATH": str(source)}
                done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
                found[state] = json.loads(done.stdout.splitlines()[-1])
                each = 1000 / found[state]["frames"]
                print(
                    clip.stem,
                    state,
                    f"{found[state]['cpu_s']:.1f} CPU s, {found[state]['wall_s']:.1f} s; CPU ms a frame:",
                )
                print(
                    "  ",
                    {name: round(each * step["cpu_s"], 1) for name, step in found[state]["steps"].items()},
                    flush=True,
                )
        if args.scale:
            results["scale"] = scale(Path(work) / f"{args.clips[0].stem}_now", args.scale)
    print(f"written: {_report.write(args.name, results).name}")


if __name__ == "__main__":
    main()
