"""Effect of each term and step of the `fast` recipe: the recipe without it, or with it, scored on held-out frames.

    python benchmarks/loss_terms.py SUBJECT FOLDER [--preset fast] [--device cuda] [--expert none] [--jobs 1]
        [--only NAME ...] [--set KEY=VALUE ...] [--name loss_terms]

Each row is an avatar of its own, trained and evaluated (self-reconstruction) by the commands that users have; FOLDER
keeps both, so that what is there is not done again, and the JSON is written anew after each row. The first row is the
recipe as it is, and the others' differences from it are printed. Every row is one run: a difference no larger than that
of "another seed" means nothing.
"""

import argparse
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from _report import arguments, write

BRANCHES = "mouth", "face"
PHOTOS = *BRANCHES, "emotion"
ROWS: dict[str, list[str]] = {
    "fast": [],
    "another seed": ["seed=1"],
    "without D-SSIM": [f"{stage}.losses.d_ssim=0" for stage in (*PHOTOS, "finetune")],
    "without silhouette": [f"{stage}.losses.silhouette=0" for stage in BRANCHES],
    "without motion size": [f"{stage}.losses.motion=0" for stage in PHOTOS],
    "without lip box": ["face.losses.lips=0"],
    "without eye box": ["face.losses.eyes=0"],
    "without curriculum": ["face.curriculum_every=0"],
    "on green": ["background=green"],
    "hears phones": ["model.audio.features=phones"],
    "without audio start": ["audio_pretraining=0"],
    "without motion start": ["motion_pretraining=0"],
    "without emotion": ["model.emotion.branch=none"],
    "with normals": [
        *(f"{stage}.losses.{part}" for stage in ("face", "emotion") for part in ("normal=0.05", "normal_tv=0.005")),
        "face.losses.normal_residual=0.001",
    ],
    "with attention": ["face.losses.attention=1e-4"],
    "with LPIPS": [
        *(f"{stage}.losses.lpips=0.2" for stage in PHOTOS),
        "finetune.losses.lpips=0.5",
        "face.losses.lpips_lips=0.01",
        *(f"{stage}.losses.patch_{end}" for stage in ("face", "emotion") for end in ("min=64", "max=96")),
        "mouth.losses.lpips_last=60",
        "face.losses.lpips_last=360",
        "emotion.losses.lpips_last=240",
        "finetune.losses.lpips_last=750",
    ],
    "with sync": ["sync.expert=personal", "optim.audio=1e-4"],
}
"""Terms that `fast` leaves out come with the paper's weights, for the paper's shares of each stage."""
FIGURES = "psnr", "psnr_head", "psnr_mouth", "ssim", "lpips", "lmd", "aue_u", "aue_l", "sync_e"


def row(name: str, args: argparse.Namespace) -> dict[str, Any] | None:
    """Train and score one row; None, and said, where that fails."""
    folder = args.folder / name.replace(" ", "_")
    avatar, report, kept = folder / "head.safetensors", folder / "report", folder / "row.json"
    if kept.exists():
        return json.loads(kept.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    program = [sys.executable, "-m", "emotalking"]
    settings = [word for each in (*ROWS[name], *args.set) for word in ("--set", each)]
    begin = time.monotonic()
    train = [*program, "train", args.subject, "-o", avatar, "--preset", args.preset, "--device", args.device, *settings]
    score = [*program, "evaluate", avatar, args.subject, "-o", report, "--scenarios", "self", "--device", args.device]
    with (folder / "log.txt").open("a") as log:

        def done(words: list[Any]) -> bool:
            return subprocess.run([str(word) for word in words], check=False, stdout=log, stderr=log).returncode == 0

        trained = done(train)
        seconds = time.monotonic() - begin
        scored = trained and done([*score, "--expert", args.expert])
    if not scored:
        print(f"{name}: failed, see {folder / 'log.txt'}", flush=True)
        return None
    (scenario,) = json.loads((report / "report.json").read_text())["results"]
    figures = next(run["metrics"] for run in scenario["runs"] if run["system"] == "avatar")
    known = {figure: figures[figure]["value"] for figure in FIGURES if figure in figures}
    found = {figure: value for figure, value in known.items() if value is not None}
    made = {"settings": ROWS[name], "train_seconds": seconds, "figures": found}
    kept.write_text(json.dumps(made, indent=2))
    print(f"{name}: {seconds:.0f} s, psnr {found['psnr']:.2f}, head {found['psnr_head']:.2f}", flush=True)
    return made


def main() -> None:
    args = arguments(__doc__)
    args.only = args.only or list(ROWS)
    facts = {"preset": args.preset, "jobs": args.jobs, "settings": args.set}
    rows: dict[str, dict[str, Any]] = {}
    with ThreadPoolExecutor(args.jobs) as pool:
        names = {pool.submit(row, name, args): name for name in args.only}
        for done in as_completed(names):
            made = done.result()
            if made is not None:
                rows[names[done]] = made
                write(args.name, {"arguments": facts, "rows": rows})
    base = rows.get("fast")
    for name, made in rows.items():
        values = [f"{figure} {made['figures'][figure]:.4g}" for figure in made["figures"]]
        if base is not None and base is not made:
            values = [
                f"{figure} {value:.4g} ({value - base['figures'][figure]:+.3g})"
                for figure, value in made["figures"].items()
            ]
        print(f"{name:<22}", "  ".join(values))


if __name__ == "__main__":
    main()
