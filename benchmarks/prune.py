"""Fewer Gaussians: what an avatar's frames lose when those that hardly show are removed, and after fine-tuning.

python benchmarks/prune.py SUBJECT AVATAR [--device cpu] [--preset fast] [--levels 0,0.002,0.005,0.01,0.02]
    [--iterations 600] [--frames 48] [--name prune] [--out FOLDER]

AVATAR was trained on SUBJECT. Per level (share of the blending weight, `FinetuneStageConfig.prune`): Gaussians left;
PSNR and LPIPS of held-out frames right after the removal, and after as many further fine-tune iterations for every
level, 0 included, so that the levels differ by the removal alone; and how far frames with emotions (which the held-out
ones do not show) differ from those of all Gaussians. First: how many Gaussians of the face keep their place. On
the CPU, last: processor time of a frame at each level.
"""

import copy
import math
import time
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from _render_cpu import conditions
from _report import arguments, write
from torch import Tensor

from emotalking.data import Subject
from emotalking.evaluate.held_out import own_emotion, pick_frames, reconstruct
from emotalking.losses.lpips import lpips
from emotalking.models.avatar import Avatar
from emotalking.models.head import TalkingHead
from emotalking.networks.lpips import Lpips
from emotalking.train.context import Context
from emotalking.train.data import TrainingData
from emotalking.train.perceptual import make_perceptual
from emotalking.train.presets import preset
from emotalking.train.prune import blending_weights, drop_unseen
from emotalking.train.run import resolve_config
from emotalking.train.stages.finetune import FinetuneStage
from emotalking.train.step import steps_of

EMOTIONS = 8
"""Points of the circumplex at radius .8."""
LIMITS = (0.1, 0.25, 0.5, 1.0)
"""Pixels."""


class Judge:
    """Scores heads on the held-out frames of their subject."""

    def __init__(self, avatar: Avatar, subject: Subject, frames: int) -> None:
        self._avatar, self._subject = avatar, subject
        self._indices = pick_frames(subject, frames, evenly=True)
        truth = [torch.from_numpy(subject.target(int(i))) for i in self._indices]
        self._truth = torch.stack(truth).to(avatar.device).float() / 255.0
        self._network = Lpips.open("squeeze").to(avatar.device)

    def rendered(self, head: TalkingHead) -> Tensor:
        """The held-out frames with their own emotion."""
        return self._frames(head, own_emotion(self._subject, self._indices))

    def emotional(self, head: TalkingHead) -> Tensor:
        """The same frames, each with one of the emotions."""
        va = own_emotion(self._subject, self._indices).copy()
        for i in range(len(va)):
            angle = 2 * math.pi * i / EMOTIONS
            va[i] = 0.8 * math.cos(angle), 0.8 * math.sin(angle)
        return self._frames(head, va)

    def _frames(self, head: TalkingHead, va: Any) -> Tensor:
        avatar = Avatar(copy.deepcopy(head), self._avatar.scene)
        return torch.stack(list(reconstruct(avatar, self._subject, self._indices, va)))

    def distance(self, frames: Tensor, others: Tensor) -> dict[str, float]:
        """PSNR (dB, mean over frames) and LPIPS."""
        psnr = -10.0 * torch.log10((frames - others).square().mean((1, 2, 3)).clamp_min(1e-12))
        apart = torch.stack([lpips(self._network, a[None], b[None]) for a, b in zip(frames, others, strict=True)])
        return {"psnr": float(psnr.mean()), "lpips": float(apart.mean())}

    def score(self, head: TalkingHead) -> dict[str, float]:
        """Against the recorded frames."""
        return self.distance(self.rendered(head), self._truth)


def _tuned(context: Context) -> float:
    """Fine-tune the context's head; seconds."""
    stage, begun = FinetuneStage(context), time.perf_counter()
    with steps_of(stage) as steps:
        for iteration in range(stage.iterations):
            steps.step(iteration)
    return time.perf_counter() - begun


def _still(avatar: Avatar, context: Context) -> dict[str, Any]:
    """Share of the face's Gaussians that stay within so many pixels, at the head's distance, over frames and emotions.

    Their turns and changes of size are not counted.
    """
    data = context.data
    rows = torch.linspace(0, data.count - 1, 64).round().long().to(data.device)
    places: dict[str, list[Tensor]] = {"speech and action units": [], "emotion too": []}
    pixels = float(avatar.scene.focal / data.conditions.viewmats[:, 2, 3].abs().mean())
    for number, row in enumerate(rows.split(1)):
        recorded = data.conditions.at(row)
        angle = 2 * math.pi * number / EMOTIONS
        va = torch.tensor([[0.8 * math.cos(angle), 0.8 * math.sin(angle)]], device=data.device)
        for name, emotion in zip(places, (None, va), strict=True):
            with torch.no_grad():
                moved = avatar.head.deform_emotional_face(recorded.audio, recorded.aus, emotion, gaze=recorded.gaze)
            places[name].append(moved.means[0])
    result = {}
    for name, means in places.items():
        every = torch.stack(means)
        extent = (every.amax(0) - every.amin(0)).norm(dim=1) * pixels
        result[name] = {f"share below {limit} px": float((extent < limit).float().mean()) for limit in LIMITS}
        result[name]["median px"] = float(extent.median())
    return result


@torch.no_grad()
def _frame_cpu_ms(heads: dict[str, TalkingHead], avatar: Avatar, repeats: int = 200) -> dict[str, float]:
    """Median processor time of a frame without torso, in milliseconds, by level; they take turns."""
    shown = {level: Avatar(head, avatar.scene) for level, head in heads.items()}
    plate = torch.from_numpy(avatar.background)[None].float() / 255.0
    made = conditions(avatar, 10)
    took: dict[str, list[float]] = {level: [] for level in heads}
    for number in range(repeats):
        given = made[number % len(made)]
        for level, one in shown.items():
            begun = time.process_time()
            one.render(given.viewmats, given.audio, given.aus, given.va, plate)
            took[level].append((time.process_time() - begun) * 1e3)
    return {level: median(times) for level, times in took.items()}


def main() -> None:
    """Measure and write the report."""
    args = arguments(__doc__)
    device, subject = torch.device(args.device), Subject.open(args.subject)
    config = resolve_config(preset(args.preset), subject)
    config = replace(config, finetune=replace(config.finetune, iterations=args.iterations))
    avatar = Avatar.load(args.avatar, device)
    data = TrainingData.load(subject, subject.train_indices, config.model.audio.features, device)
    judge, perceptual = Judge(avatar, subject, args.frames), make_perceptual(config, device)
    print("loaded", flush=True)

    def context_of(head: TalkingHead) -> Context:
        return Context(head, data, config, torch.Generator().manual_seed(0), None, perceptual)

    whole = judge.emotional(avatar.head)
    begun = time.perf_counter()
    weights = blending_weights(context_of(avatar.head))
    shares = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75)
    results: dict[str, Any] = {
        "size": [avatar.width, avatar.height],
        "iterations": args.iterations,
        "weights_seconds": time.perf_counter() - begun,
        "weights": {name: {str(q): float(values.quantile(q)) for q in shares} for name, values in weights.items()},
        "moves": _still(avatar, context_of(avatar.head)),
        "as_trained": judge.score(avatar.head),
        "levels": {},
    }
    heads: dict[str, TalkingHead] = {}
    for level in (float(text) for text in args.levels.split(",")):
        head = copy.deepcopy(avatar.head)
        context = context_of(head)
        if level:
            drop_unseen(context, level)
        row: dict[str, Any] = {name: getattr(head, name).gaussians.count for name in ("face", "mouth")}
        row["removed"] = judge.score(head)
        row["emotional_frames"] = judge.distance(judge.emotional(head), whole)
        row["seconds"] = _tuned(context)
        row["fine_tuned"] = judge.score(head)
        results["levels"][str(level)] = row
        heads[str(level)] = head
        print(level, row, flush=True)
        write(args.name, results, args.out)
    if device.type == "cpu":
        results["frame_cpu_ms"] = _frame_cpu_ms(heads, avatar)
        print(results["frame_cpu_ms"])
        write(args.name, results, args.out)


if __name__ == "__main__":
    main()
