"""Host memory of a training on a long clip: a subject repeated to five minutes, a few steps of every stage.

python benchmarks/train_memory.py SUBJECT [--frames 7500] [--preset tiny] [--device cpu] [--set KEY=VALUE ...]
    [--child]

The pictures of the long subject are links to SUBJECT's. The training runs in a process of its own, whose peak is read.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import _report
import numpy as np

from emotalking.data import Subject
from emotalking.data.files import SubjectFiles
from emotalking.data.readers import read_json
from emotalking.io.arrays import load_archive

STEPS = 4
"""Steps of each stage; half of a branch's are its warm-up."""


def repeated(source: Subject, frames: int, root: Path) -> None:
    """Write a subject of ``frames`` frames that shows ``source`` again and again."""
    count = source.num_frames
    order = np.arange(frames) % count
    for folder in ("ori_imgs", "gt_imgs", "parsing", "teeth_mask", "torso_imgs", "normals"):
        (root / folder).mkdir(parents=True)
        for path in (source.files.root / folder).iterdir():
            for index in range(int(path.stem), frames, count):
                (root / folder / f"{index}{path.suffix}").symlink_to(path.resolve())
    (root / "bc.jpg").symlink_to(source.files.background.resolve())
    cameras = [read_json(source.files.transforms(split)) for split in ("train", "val")]
    known = {entry["img_id"]: entry for part in cameras for entry in part["frames"]}
    train = frames * 10 // 11
    for split, numbers in (("train", range(train)), ("val", range(train, frames))):
        entries = [known[int(order[index])] | {"img_id": index, "aud_id": index} for index in numbers]
        (root / f"transforms_{split}.json").write_text(json.dumps(cameras[0] | {"frames": entries}))
    for name in ("au.csv", "va.csv"):
        lines = (source.files.root / name).read_text().splitlines()
        (root / name).write_text("\n".join([lines[0], *(lines[1 + index] for index in order)]) + "\n")
    stored = load_archive(source.files.landmarks)
    track = {key: value[order] if value.shape[:1] == (count,) else value for key, value in stored.items()}
    np.savez(root / "landmarks.npz", **track)
    np.save(SubjectFiles(root).audio_features(), source.audio_features()[order])
    (root / "subject.json").write_text(json.dumps({"fps": str(source.fps), "frames": frames}))


def train_it(args: argparse.Namespace) -> None:
    """The child: a short training, and what it took, as JSON on the standard output."""
    from emotalking.train.run import train

    settings = [f"{stage}.iterations={STEPS}" for stage in ("mouth", "face", "emotion", "finetune")]
    settings += [f"{stage}.warmup={STEPS // 2}" for stage in ("mouth", "face")]
    began = time.perf_counter()
    made = train(args.subject, args.subject.parent / "a.safetensors", args.preset, args.device, settings + args.set)
    print(
        json.dumps(
            {
                "peak_mb": _report.peak_mb(),
                "total_s": time.perf_counter() - began,
                "stage_seconds": made.stage_seconds,
                "avatar_mb": made.path.stat().st_size // 2**20,
            }
        )
    )


def main() -> None:
    args = _report.arguments(__doc__)
    if args.child:
        train_it(args)
        return
    source = Subject.open(args.subject)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "long"
        repeated(source, args.frames, root)
        command = [sys.executable, str(Path(__file__)), str(root), "--child", "--preset", args.preset]
        command += ["--device", args.device, *(part for setting in args.set for part in ("--set", setting))]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=os.environ).stdout)
    results = {"frames": args.frames, "size": [source.width, source.height], "preset": args.preset}
    results |= {"settings": args.set, "steps_of_each_stage": STEPS} | found
    raw = args.frames * 10 // 11 * source.width * source.height * 11 // 2**20
    results["pictures_mb_if_held"] = raw
    print(f"peak {found['peak_mb']} MB of host memory; the pictures alone would be {raw} MB")
    print(_report.write(f"train_memory_{args.device.split(':')[0]}", results))


if __name__ == "__main__":
    main()
