"""Many subjects on one GPU and on several: seconds of ``train-many``, without Ray.

python benchmarks/many_gpus.py SUBJECT SUBJECT ... [--gpus 2] [--preset fast] [--set KEY=VALUE ...]

On one GPU the subjects are trained one after another in one process. On several, each GPU has a process of its own
that sees it alone (CUDA_VISIBLE_DEVICES) and trains its share one after another: what Ray does with a GPU a job,
without Ray's own time (``benchmarks/many_jobs.py``). One short training goes before, so that kernels are compiled
and files are in memory.
"""

import argparse
import os
import subprocess
import sys
import tempfile
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


def timed(args: argparse.Namespace, gpus: int, folder: Path, settings: list[str]) -> dict[str, Any]:
    """Seconds until all avatars are there, and those of each subject's stages."""
    began = time.perf_counter()
    shares = [args.subjects[gpu::gpus] for gpu in range(gpus)]
    outs = [folder / f"{gpus}_{gpu}" for gpu in range(gpus)]
    running = [
        start(gpu, share, out, args.preset, settings) for gpu, (share, out) in enumerate(zip(shares, outs, strict=True))
    ]
    if any(process.wait() for process in running):
        raise SystemExit("a training failed: see its messages above")
    seconds = time.perf_counter() - began
    results: list[SubjectResult] = [
        with_record(out / f"{subject.resolve().name}.safetensors", "trained")
        for share, out in zip(shares, outs, strict=True)
        for subject in share
    ]
    subjects = {one.name: {"stage_seconds": round(one.seconds, 2), "psnr": round(one.psnr, 2)} for one in results}
    print(f"{gpus} GPUs: {seconds:.1f} s; {subjects}")
    return {"seconds": round(seconds, 2), "processes": gpus, "subjects": subjects}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subjects", type=Path, nargs="+")
    parser.add_argument("--gpus", type=int, default=2)
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--name", default="many_gpus", help="of the JSON")
    args = parser.parse_args()
    if torch.cuda.device_count() < args.gpus:
        raise SystemExit(f"{args.gpus} GPUs are needed")
    with tempfile.TemporaryDirectory() as folder:
        if start(0, args.subjects[:1], Path(folder) / "few", args.preset, [*args.settings, *FEW]).wait():
            raise SystemExit("the first training failed: see its messages above")
        one, many = (timed(args, gpus, Path(folder), args.settings) for gpus in (1, args.gpus))
    results = {"one_gpu": one, "many_gpus": many, "times_faster": round(one["seconds"] / many["seconds"], 3)}
    results |= {
        "engine": "sequential, a process for each GPU; no Ray",
        "preset": args.preset,
        "settings": args.settings,
        "gpu": torch.cuda.get_device_name(),
    }
    print(f"{args.gpus} GPUs are {results['times_faster']:.2f} times as fast; {_report.write(args.name, results)}")


if __name__ == "__main__":
    main()
