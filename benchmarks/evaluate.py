"""Time and memory of an evaluation: about 200 frames of each scenario, with every evaluation model that is installed.

python benchmarks/evaluate.py AVATAR SUBJECT [--frames 200] [--device cpu] [--expert auto]

The self-reconstruction also scores the recording itself; it is limited to the frames that the subject holds out.
"""

import tempfile
import time
from pathlib import Path

import torch
from _report import arguments, peak_mb, write

from emotalking import EvaluateConfig, api
from emotalking.emotion.circumplex import TEST_POINTS


def main() -> None:
    args = arguments(__doc__)
    limits = {"self": args.frames // 2, "cross": args.frames // 2, "emotion": max(args.frames // len(TEST_POINTS), 1)}
    rows, begin = {}, time.perf_counter()
    for scenario, limit in limits.items():
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            report = api.evaluate(
                args.avatar,
                args.subject,
                folder,
                EvaluateConfig(scenarios=(scenario,), frames=limit, expert=args.expert),
                device=args.device,
            )
            whole = time.perf_counter() - start
            result = report.results[0]
            size = (Path(folder) / "report.html").stat().st_size
        frames = sum(run.frames for run in result.runs)
        rows[scenario] = {
            "frames": frames,
            "seconds": result.seconds,
            "seconds_with_start_and_report": whole,
            "frames_per_second": frames / result.seconds,
            "rendered_per_second": result.summary("avatar")["fps"].value,
            "page_bytes": size,
            "peak_mb_so_far": peak_mb(),
        }
        print(f"{scenario:<8} {frames:4d} frames  {result.seconds:6.1f} s  ({whole:.1f} s in all)  {peak_mb()} MB")
    results = {
        "size": list(report.provenance["data"]["size"]),
        "evaluation_models": report.provenance["evaluation_models"],
        "limits": limits,
        "scenarios": rows,
        "total_seconds": time.perf_counter() - begin,
    }
    print(write(f"evaluate_{torch.device(args.device).type}", results))


if __name__ == "__main__":
    main()
