"""How sharp a head is, and what that costs: perceptual terms, more Gaussians, corrected frames, in one run.

    python benchmarks/sharpness.py FOLDER SUBJECT ... [--variants none preset ...] [--seeds 0 1 ...] [--preset fast]
        [--device cpu] [--jobs 1] [--frames N ...] [--set KEY=VALUE ...] [--name sharpness]

Trains each variant and scores its held-out frames from their own sound, pose and action units: pixels, LPIPS, the band
around the head's outline, lips. Trained and measured with one backbone (squeeze, the one at hand everywhere), LPIPS
praises its own pupil: PSNR and SSIM say what it costs, and the frames that `--frames` writes want to be looked at.
Every result is stored in FOLDER at once, and a rerun continues.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from _report import arguments, write
from lips import scores

from emotalking.data import Subject
from emotalking.evaluate.held_out import own_emotion, reconstruct
from emotalking.io.images import write_image
from emotalking.ops.composite import to_uint8
from emotalking.train.run import train

PATCHED = "face", "mouth", "finetune"
LEVERS: dict[str, list[str]] = {
    "preset": [],
    "none": [f"{stage}.losses.lpips=0" for stage in PATCHED],
    "large": [f"{stage}.losses.patch_{bound}" for stage in PATCHED for bound in ("min=64", "max=96")],
    "huge": [f"{stage}.losses.patch_{bound}" for stage in PATCHED for bound in ("min=448", "max=480")],
    "strong": ["face.losses.lpips=0.4", "finetune.losses.lpips=1.0"],
    "cooled": ["optim.final_share=0.1"],
    "affine": ["corrections.rate=0.003", "corrections.weight=0.001"],
    "smooth": ["corrections.rate=0.001", "corrections.weight=0.001", "corrections.window=5"],
    "quadratic": ["corrections.rate=0.001", "corrections.weight=0.001", "corrections.window=5", "corrections.degree=2"],
    "more": ["face.densify.grad_threshold=0.0002", "face.densify.max_gaussians=80000"],
    "longer": [
        *("face.iterations=9000", "face.lr_decay_from=7200", "face.means_until=6750", "face.densify.until=6750"),
        *("face.losses.lpips_last=4500", "finetune.iterations=3000", "finetune.losses.lpips_last=3000"),
    ],
    "neutral": ["model.emotion.branch=none"],
    "hard": ["face.soft_outline=false"],
}
"""Settings by name. A variant is one or several of them, joined by `+`; each begins from the preset."""


def settings_of(variant: str) -> list[str]:
    """All settings of a variant."""
    return [setting for lever in variant.split("+") for setting in LEVERS[lever]]


def work(subject: Path, variant: str, seed: int, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Train and score one head; its row."""
    torch.set_num_threads(1 if args.device != "cpu" else torch.get_num_threads())
    file = folder / f"{subject.name}_{variant}_{seed}.safetensors"
    settings = [*settings_of(variant), *args.set, f"seed={seed}", "perceptual.backbone=squeeze"]
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
    args = arguments(__doc__)
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
            if (error := done.exception()) is not None:
                print(f"{name}: {type(error).__name__}: {error}", flush=True)
                continue
            rows[name] = done.result()
            (args.folder / f"{name}.json").write_text(json.dumps(rows[name]))
            print(name, " ".join(f"{key} {value:.4g}" for key, value in rows[name].items()), flush=True)
    found = summary(rows)
    for name, values in found.items():
        print(name, " ".join(f"{key} {value['mean']:.4g}±{value['deviation']:.2g}" for key, value in values.items()))
    settings = {variant: settings_of(variant) for variant in args.variants}
    write(args.name, {"preset": args.preset, "settings": [settings, args.set], "rows": rows, "found": found})


if __name__ == "__main__":
    main()
