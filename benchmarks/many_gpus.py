"""Many subjects on one GPU and on several: seconds of ``train-many``, without Ray.

python benchmarks/many_gpus.py FOLDER SUBJECT ... [--counts 1 2 ...] [--preset fast] [--set KEY=VALUE ...]
    [--name many_gpus]

On one GPU the subjects are trained one after another in one process. On several, each GPU has a process of its own
that sees it alone (CUDA_VISIBLE_DEVICES) and trains its share one after another: what Ray does with a GPU a job,
without Ray's own time (``benchmarks/many_jobs.py``). One short training goes before, so that kernels are compiled
and files are in memory. Avatars stay in FOLDER/COUNT_GPU, and what was measured in FOLDER/COUNT.json: counts may be
measured in runs of their own, with other seeds too, and each run prints and writes all that FOLDER has.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import _report
import torch

from emotalking.train.many import SubjectResult, with_record

STAGES = ("mouth", "face", "emotion", "finetune")
FEW = [f"{stage}.iterations=20" for stage in STAGES] + ["mouth.warmup=5", "face.warmup=5", "closed_mouth_code=2"]


def start(gpu: int, subjects: list[Path], out: Path, preset: str, settings: list[str]) -> "subprocess.Popen[bytes]":
    """Begin ``train-many`` on one GPU."""
    words = ["train-many", *map(str, subjects), "-o", str(out), "--preset", preset, "--device", "cuda"]
    words += [word for setting in settings for word in ("--set", setting)]
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    number = seen.split(",")[gpu] if seen else str(gpu)
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": number}
    return subprocess.Popen([sys.executable, "-m", "emotalking", *words], env=environment, stdout=subprocess.DEVNULL)


def timed(args: argparse.Namespace, gpus: int) -> dict[str, Any]:
    """Seconds until all avatars are there, and each subject's seconds of stages and PSNR."""
    began = time.perf_counter()
    shares = [args.subjects[gpu::gpus] for gpu in range(gpus)]
    outs = [args.folder / f"{gpus}_{gpu}" for gpu in range(gpus)]
    running = [
        start(gpu, share, out, args.preset, args.set) for gpu, (share, out) in enumerate(zip(shares, outs, strict=True))
    ]
    if any([process.wait() for process in running]):
        raise SystemExit("a training failed: see its messages above")
    seconds = time.perf_counter() - began
    results: list[SubjectResult] = [
        with_record(out / f"{subject.resolve().name}.safetensors", "trained")
        for share, out in zip(shares, outs, strict=True)
        for subject in share
    ]
    subjects = {one.name: {"stage_seconds": round(one.seconds, 2), "psnr": round(one.psnr, 2)} for one in results}
    return {"seconds": round(seconds, 2), "settings": args.set, "subjects": subjects}


def main() -> None:
    args = _report.arguments(__doc__)
    if torch.cuda.device_count() < max(args.counts, default=0):
        raise SystemExit(f"{max(args.counts)} GPUs are needed")
    if args.counts and start(0, args.subjects[:1], args.folder / "few", args.preset, [*args.set, *FEW]).wait():
        raise SystemExit("the first training failed: see its messages above")
    for count in args.counts:
        (args.folder / f"{count}.json").write_text(json.dumps(timed(args, count)))
    gpus = {file.stem: json.loads(file.read_text()) for file in sorted(args.folder.glob("*.json"))}
    results: dict[str, Any] = {"gpus": gpus}
    for count, measured in gpus.items():
        print(f"{count} GPUs: {measured['seconds']:.1f} s; {measured['subjects']}")
        if "1" in gpus and count != "1":
            faster = round(gpus["1"]["seconds"] / measured["seconds"], 3)
            results[f"times_faster_on_{count}"] = faster
            print(f"{count} GPUs are {faster:.2f} times as fast as one")
    results |= {"engine": "sequential, a process for each GPU; no Ray", "preset": args.preset}
    results["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    print(_report.write(args.name, results))


if __name__ == "__main__":
    main()
