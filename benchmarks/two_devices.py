"""One avatar on one device and on two, in one process: time of the whole and of each stage, held-out PSNR, same bits?

python benchmarks/two_devices.py SUBJECT [--devices cuda:0,cuda:1] [--preset fast] [--set KEY=VALUE ...]

A device may be named twice here: then two processes share it. A short training on both goes before, so that kernels are
compiled and files are in memory.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import _report
import torch

from emotalking.data import Subject
from emotalking.evaluate.held_out import evaluate_held_out
from emotalking.train.run import TrainResult, train

STAGES = ("mouth", "face", "emotion", "finetune")
FEW = [f"{stage}.iterations=20" for stage in STAGES] + ["mouth.warmup=5", "face.warmup=5", "closed_mouth_code=2"]


def timed(
    args: argparse.Namespace, out: Path, mouth_device: str | None, settings: list[str]
) -> tuple[TrainResult, float]:
    """Train, and the seconds from the call to the written avatar and page."""
    began = time.perf_counter()
    made = train(args.subject, out, args.preset, args.devices[0], settings, mouth_device=mouth_device)
    return made, time.perf_counter() - began


def figures(made: TrainResult, seconds: float, subject: Subject) -> dict[str, Any]:
    """Reported results of a training."""
    head = made.avatar.head
    return {
        "seconds": seconds,
        "stage_seconds": made.stage_seconds,
        "psnr": evaluate_held_out(made.avatar, subject).summary()["psnr"],
        "gaussians": {"face": head.face.gaussians.count, "mouth": head.mouth.gaussians.count},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", type=Path)
    parser.add_argument("--devices", type=lambda text: text.split(","), default=["cuda:0", "cuda:1"])
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--name", default="two_devices", help="of the JSON")
    args = parser.parse_args()
    subject, results = Subject.open(args.subject), {}
    with tempfile.TemporaryDirectory() as folder:
        timed(args, Path(folder) / "few.safetensors", args.devices[1], [*args.settings, *FEW])
        weights = []
        for name, mouth_device in (("one", None), ("two", args.devices[1])):
            made, seconds = timed(args, Path(folder) / f"{name}.safetensors", mouth_device, args.settings)
            results[name] = figures(made, seconds, subject)
            weights.append(made.avatar.head.state_dict())
            stages = ", ".join(f"{stage} {taken:.1f}" for stage, taken in made.stage_seconds.items())
            print(f"{name}: {seconds:.1f} s ({stages}), PSNR {results[name]['psnr']:.2f} dB")
    one, two = weights
    same = all(value.shape == two[name].shape and torch.equal(value, two[name]) for name, value in one.items())
    results |= {"devices": args.devices, "preset": args.preset, "settings": args.settings, "same_bits": same}
    results["times_faster"] = results["one"]["seconds"] / results["two"]["seconds"]
    results["command"] = " ".join(
        ["python benchmarks/two_devices.py SUBJECT --devices", ",".join(args.devices), "--preset", args.preset]
        + [word for setting in args.settings for word in ("--set", setting)]
    )
    print(f"two devices: {results['times_faster']:.2f} times as fast; {'the same' if same else 'other'} bits")
    print(f"written: {_report.write(args.name, results)}")


if __name__ == "__main__":
    main()
