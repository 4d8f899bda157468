"""Larger frames: training time, memory, rendering and sharpness of the synthetic actor at several sizes.

    python benchmarks/frame_size.py FOLDER [--sizes 512 1024 ...] [--seconds 4.0] [--preset fast] [--device cpu]
        [--jobs 1] [--set KEY=VALUE ...] [--name frame_size]

One performance is filmed at each size (exact poses and masks) and trained on. Held-out frames are scored at their own
size and, scaled up (Lanczos), against the largest: what true pixels give beyond scaled ones.
"""

import argparse
import time
from fractions import Fraction
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from _report import arguments, write

from emotalking.data import Subject
from emotalking.evaluate.held_out import own_emotion, reconstruct
from emotalking.losses.lpips import lpips
from emotalking.networks.lpips import Lpips
from emotalking.testing.actor.actor import Actor
from emotalking.testing.actor.performance import Performance
from emotalking.testing.actor.state import ActorFrame, ActorState
from emotalking.testing.actor_subject import write_actor_subject
from emotalking.train.run import train


def frame_of(state: ActorState, size: int) -> ActorFrame:
    """One frame of the actor."""
    return Actor(size=size).render(state)


def subject_of(root: Path, size: int, seconds: float, jobs: int) -> Subject:
    """The performance as a subject folder of that size."""
    if (root / "subject.json").exists():
        return Subject.open(root)
    script, actor = Performance.generate(seconds, seed=1), Actor(size=size)
    with get_context("spawn").Pool(jobs) as pool:
        frames = pool.imap(partial(frame_of, size=size), script.states, chunksize=4)
        fps, neutral = Fraction(script.fps), actor.neutral_landmarks()
        return write_actor_subject(root, frames, script.waveform, fps, actor.layout, neutral)


def row(subject: Subject, truth: Subject, file: Path, args: argparse.Namespace, network: Lpips) -> dict[str, Any]:
    """Train on ``subject`` and score it, scaled up to ``truth`` too."""
    cuda = args.device != "cpu"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    made = train(subject.files.root, file, args.preset, args.device, args.set, resume=False)
    found: dict[str, Any] = {"stage_seconds": made.stage_seconds}
    if cuda:
        found["gpu_gib"] = torch.cuda.max_memory_allocated() / 2**30
    avatar = made.avatar.to(args.device)
    found["gaussians"] = {name: getattr(avatar.head, name).gaussians.count for name in ("face", "mouth")}
    found["file_mb"] = file.stat().st_size / 1e6
    indices = np.asarray(subject.val_indices)
    va = own_emotion(subject, indices) if avatar.head.emotion is not None else None
    for _ in range(2):  # the second time is warm
        begin = time.perf_counter()
        frames = [frame.cpu().numpy() for frame in reconstruct(avatar, subject, indices, va)]
        found["reconstruct_ms"] = (time.perf_counter() - begin) * 1e3 / len(indices)
    size = (truth.width, truth.height)
    for name, against in (("own", subject), ("scaled", truth)):
        scores = []
        for index, frame in zip(indices, frames, strict=True):
            wanted = np.float32(against.target(int(index))) / 255.0
            given = frame if against is subject else cv2.resize(frame, size, interpolation=cv2.INTER_LANCZOS4)
            ours, theirs = (torch.from_numpy(np.clip(x, 0, 1))[None].to(args.device) for x in (given, wanted))
            with torch.no_grad():
                error, distance = float((ours - theirs).square().mean()), float(lpips(network, ours, theirs))
            scores.append((-10.0 * np.log10(error), distance))
        found[name] = dict(zip(("psnr", "lpips"), np.mean(scores, 0).tolist(), strict=True))
    return found


def main() -> None:
    args = arguments(__doc__)
    subjects = {size: subject_of(args.folder / str(size), size, args.seconds, args.jobs) for size in args.sizes}
    network, truth, rows = Lpips.open("squeeze").to(args.device), subjects[max(args.sizes)], {}
    facts = {"preset": args.preset, "seconds": args.seconds, "settings": args.set}
    for size, subject in subjects.items():
        rows[size] = row(subject, truth, args.folder / f"{size}.safetensors", args, network)
        print(size, rows[size], flush=True)
        write(args.name, {"arguments": facts, "rows": rows})


if __name__ == "__main__":
    main()
