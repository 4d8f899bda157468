"""Accuracy of the personal sync expert on unseen seconds and people, by its training data.

python benchmarks/sync_expert.py CLIP ... [--device cpu] [--only NAME ...] [--beside CLIP,...=EXPERT ...]
    [--save FILE]

CLIPS.npz: of benchmarks/sync_clips.py, with the names reporter, suit, address_fr, address, actor, grid. Every expert is
judged on the held-out end of each clip it learned from, and on the whole of the others: Sync-E and Sync-C, and the
offset of pieces whose sound was shifted on purpose by -10 to +10 frames. "untrained" is the baseline of the same run.
Experts trained before are judged in the same run with `--beside`, which names the clips that they learned from.
"on a CPU" is what ``emotalking sync train`` does without a GPU; CPU seconds count this process alone, so that they say
what it costs where the machine had other work too.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _report import arguments, write
from sync_clips import unpack

from emotalking.lipsync import training as sync_training
from emotalking.lipsync.dataset import STORED, TalkingClip
from emotalking.lipsync.personal import SIZE, PersonalExpert, PersonalNetwork, save_expert
from emotalking.lipsync.scores import sync_scores
from emotalking.lipsync.windows import FPS, FRAMES

SHIFTS = range(-10, 11)
PIECES_S = (1, 2, 5)
ONE = ("reporter",)
ALL = ("reporter", "suit", "address_fr", "grid", "actor")
RECIPES: dict[str, dict[str, Any]] = {
    "untrained": {"on": ONE, "steps": 1},
    "reporter, 150 steps": {"on": ONE, "steps": 150},
    "reporter, 300 steps": {"on": ONE, "steps": 300},
    "reporter": {"on": ONE, "steps": 600},
    "reporter, on a CPU": {"on": ONE, "steps": sync_training.STEPS_CPU, "runs": sync_training.RUNS_CPU},
    "reporter, 1500 steps": {"on": ONE, "steps": 1500},
    "reporter, pictures not changed": {"on": ONE, "steps": 600, "plain": True},
    "reporter + grid": {"on": ("reporter", "grid"), "steps": 1000},
    "all": {"on": ALL, "steps": 1000},
    "all, 2500 steps": {"on": ALL, "steps": 2500},
    "all but reporter": {"on": ALL[1:], "steps": 1000},
}


def middle(pictures: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """The cut without any change."""
    edge = (STORED - SIZE) // 2
    return pictures[..., edge : edge + SIZE, edge : edge + SIZE]


def shifted(lips: torch.Tensor, audio: torch.Tensor, length: int) -> dict[str, float]:
    """Accuracy of the offset of pieces with shifted sound."""
    reach = max(SHIFTS)
    errors = [
        abs(sync_scores(lips[b : b + length], audio[b + s : b + s + length], expert="", edges="inside").offset - s)
        for b in range(reach, len(lips) - length - reach + 1, max(1, (len(lips) - length - 2 * reach) // 8))
        for s in SHIFTS
    ]
    within = {f"within_{limit}": float(np.mean(np.array(errors) <= limit)) for limit in (0, 1)}
    return within | {"tried": len(errors)}


def judge(network: PersonalNetwork, clip: TalkingClip, learned: bool) -> dict[str, Any]:
    """Figures on the frames that were not learned from."""
    good = clip.detected & ~clip.training if learned else clip.detected
    frames = np.flatnonzero(good)
    begin, end = int(frames[0]), int(frames[-1]) + 1
    lips, audio = sync_training.embed_clip(network, clip, begin, end)
    use = torch.from_numpy(np.lib.stride_tricks.sliding_window_view(good[begin:end], FRAMES).all(1))
    lips = lips.cpu().masked_fill(~use[:, None], torch.nan)
    whole = sync_scores(lips, audio.cpu(), expert="", edges="inside")
    pieces = {}
    if use.all():
        lengths = {f"{seconds} s": seconds * FPS - FRAMES + 1 for seconds in PIECES_S}
        pieces = {name: shifted(lips, audio.cpu(), n) for name, n in lengths.items() if n + 2 * max(SHIFTS) < len(lips)}
    return {
        "seconds": round(len(frames) / FPS, 1),
        "sync_e": whole.error,
        "sync_c": whole.confidence,
        "offset": whole.offset,
        "curve": [round(float(value), 4) for value in whole.curve],
        "shifted_on_purpose": pieces,
    }


def run(name: str, clips: dict[str, TalkingClip], device: str, save: Path | None) -> dict[str, Any]:
    """Train by one recipe and judge on all clips."""
    recipe = RECIPES[name]
    changed = sync_training.augment_images
    sync_training.augment_images = middle if recipe.get("plain") else changed
    begun, worked = time.monotonic(), time.process_time()
    runs = recipe.get("runs", sync_training.RUNS_GPU)
    network, loss = sync_training.fit(
        [clips[clip] for clip in recipe["on"]], steps=recipe["steps"], runs=runs, device=device, seed=0
    )
    seconds, cpu_seconds = time.monotonic() - begun, time.process_time() - worked
    sync_training.augment_images = changed
    if save is not None:
        save.mkdir(parents=True, exist_ok=True)
        facts = {"clips": list(recipe["on"]), "steps": recipe["steps"], "licence": "Apache-2.0"}
        save_expert(network, save / f"{name.replace(', ', '_').replace(' ', '_')}.safetensors", facts)
    spent = f"{seconds:.1f} s ({cpu_seconds:.1f} s of CPU)"
    print(f"\n{name}: {recipe['steps']} steps of {runs} runs in {spent}, loss {loss:.3f}")
    facts = {"learned_from": list(recipe["on"]), "steps": recipe["steps"], "runs": runs, "loss": loss}
    timing = {"seconds": seconds, "cpu_seconds": cpu_seconds, "threads": torch.get_num_threads()}
    return facts | timing | {"judged": judge_all(network, clips, recipe["on"])}


def beside(which: str, clips: dict[str, TalkingClip], device: str) -> dict[str, Any]:
    """Judge an expert that was trained before, named as CLIP,...=FILE."""
    names, path = which.split("=", 1)
    expert = PersonalExpert.load(path, device)
    print(f"\n{expert.name}: {expert.facts['steps']} steps, trained before")
    facts = {"learned_from": names.split(","), "steps": expert.facts["steps"]}
    return facts | {"judged": judge_all(expert.network, clips, facts["learned_from"])}


def judge_all(network: PersonalNetwork, clips: dict[str, TalkingClip], learned: Sequence[str]) -> dict[str, Any]:
    """Figures on every clip, printed."""
    judged = {}
    for clip, content in clips.items():
        judged[clip] = figures = judge(network, content, clip in learned)
        found = {length: round(part["within_1"], 2) for length, part in figures["shifted_on_purpose"].items()}
        kind = "held out" if clip in learned else "unseen"
        line = f"  {clip:<11} {kind:<9} {figures['seconds']:6.1f} s  offset {figures['offset']:+3d}"
        line += f"  Sync-E {figures['sync_e']:.3f}  Sync-C {figures['sync_c']:.3f}  within one frame {found}"
        print(line, flush=True)
    return judged


def main() -> None:
    args = arguments(__doc__)
    clips = {name: clip for path in args.clips for name, clip in unpack(path).items()}
    results = {name: run(name, clips, args.device, args.save) for name in args.only or RECIPES}
    results |= {f"beside: {Path(which).stem}": beside(which, clips, args.device) for which in args.beside}
    print(write(f"sync_expert_{torch.device(args.device).type}", results))


if __name__ == "__main__":
    main()
