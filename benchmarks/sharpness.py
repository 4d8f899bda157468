"""How sharp a head is, and what that costs: perceptual terms and more Gaussians against the preset, in one run.

    python benchmarks/sharpness.py FOLDER SUBJECT [SUBJECT ...] [--variants preset finetune all] [--seeds 0 1]
        [--preset fast] [--device cuda] [--jobs 4] [--frames 30 120]

Trains each variant and scores its held-out frames from their own sound, pose and action units: pixels, LPIPS, the band
around the head's outline, lips. Trained and measured with one backbone (squeeze, the one at hand everywhere), LPIPS
praises its own pupil: PSNR and SSIM say what it costs, and the frames that `--frames` writes want to be looked at.
Every result is stored in FOLDER at once, and a rerun continues.
"""

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from _report import write
from lips import scores

from emotalking.data import Subject
from emotalking.evaluate.held_out import own_emotion, reconstruct
from emotalking.io.images import write_image
from emotalking.ops.composite import to_uint8
from emotalking.train.run import train

OFF = [f"{stage}.losses.lpips=0" for stage in ("mouth", "face", "finetune")]
FINETUNE = [*OFF, "finetune.losses.lpips=0.5", "finetune.losses.lpips_last=1500"]
LATE = [
    "face.losses.lpips=0.2",
    "face.losses.lpips_last=3000",
    "mouth.losses.lpips=0.2",
    "mouth.losses.lpips_last=1000",
]
LARGE = [f"{stage}.losses.patch_{bound}" for stage in ("face", "mouth", "finetune") for bound in ("min=64", "max=96")]
MORE = ["face.densify.grad_threshold=0.00015", "face.densify.max_gaussians=80000", "model.face.initial_points=20000"]
VARIANTS: dict[str, list[str]] = {
    "preset": [],
    "none": OFF,
    "finetune": FINETUNE,
    "late": [*FINETUNE, *LATE],
    "late-large": [*FINETUNE, *LATE, *LARGE],
    "more": [*OFF, *MORE],
    "late-more": [*FINETUNE, *LATE, *MORE],
}


def work(subject: Path, variant: str, seed: int, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Train and score one head; its row."""
    torch.set_num_threads(1 if args.device != "cpu" else torch.get_num_threads())
    file = folder / f"{subject.name}_{variant}_{seed}.safetensors"
    settings = [*VARIANTS[variant], *args.settings, f"seed={seed}", "perceptual.backbone=squeeze"]
    made = train(subject, file, args.preset, args.device, settings, resume=False)
    source, avatar = Subject.open(subject), made.avatar.to(args.device)
    indices = np.asarray(source.val_indices)
    va = own_emotion(source, indices) if avatar.head.emotion is not None else None
    for number, frame in enumerate(reconstruct(avatar, source, indices, va)):
        if number in args.frames:
            write_image(file.with_name(f"{file.stem}_{number}.png"), to_uint8(frame))
    gaussians = {name: getattr(avatar.head, name).gaussians.count for name in ("face", "mouth")}
    row: dict[str, Any] = scores(avatar, source, indices, va, lpips=True)
    return row | {"stage_seconds": sum(made.stage_seconds.values())} | gaussians


def summary(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Mean and deviation over the seeds, by subject and variant."""
    found: dict[str, dict[str, list[float]]] = {}
    for name, row in sorted(rows.items()):
        place = found.setdefault(name.rpartition(" ")[0], {})
        for key, value in row.items():
            place.setdefault(key, []).append(value)
    return {
        name: {key: {"mean": mean(v), "deviation": stdev(v) if len(v) > 1 else 0.0} for key, v in values.items()}
        for name, values in found.items()
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("subjects", type=Path, nargs="+")
    parser.add_argument("--variants", nargs="+", default=["none", "preset"], choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--frames", type=int, nargs="*", default=[])
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--name", default="sharpness")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    runs = [(s, v, seed) for seed in args.seeds for s in args.subjects for v in args.variants]
    rows: dict[str, dict[str, Any]] = {}
    with ProcessPoolExecutor(args.jobs, get_context("spawn")) as pool:
        waiting = {}
        for subject, variant, seed in runs:
            name = f"{subject.name} {variant} {seed}"
            stored = args.folder / f"{name}.json"
            if stored.exists():
                rows[name] = json.loads(stored.read_text())
            else:
                waiting[pool.submit(work, subject, variant, seed, args.folder, args)] = name
        for done in as_completed(waiting):
            name = waiting[done]
            rows[name] = done.result()
            (args.folder / f"{name}.json").write_text(json.dumps(rows[name]))
            print(name, " ".join(f"{key} {value:.4g}" for key, value in rows[name].items()), flush=True)
    found = summary(rows)
    for name, values in found.items():
        print(name, " ".join(f"{key} {value['mean']:.4g}±{value['deviation']:.2g}" for key, value in values.items()))
    settings = {variant: VARIANTS[variant] for variant in args.variants}
    write(args.name, {"preset": args.preset, "settings": [settings, args.settings], "rows": rows, "found": found})


if __name__ == "__main__":
    main()
