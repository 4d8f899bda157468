"""Cost and effect of the perceptual loss: one avatar fine-tuned from the same weights without it and with it.

python benchmarks/perceptual.py SUBJECT AVATAR [--steps 300] [--weight 0.5] [--backbone auto] [--patches 0]
    [--frames 40] [--device cpu]

Times are of whole steps, of both kinds in turns. Held-out frames are scored before and after each fine-tuning. LPIPS is
judged by the backbone that trained (squeeze, where the model folder has no other): its gain is then a teacher's praise,
and PSNR and SSIM say what it costs.
"""

import statistics
import time
from typing import Any

import torch
from _report import arguments, write

from emotalking.data import Subject
from emotalking.evaluate.held_out import evaluate_held_out
from emotalking.io.settings import override
from emotalking.models.avatar import Avatar
from emotalking.train.config import TrainConfig
from emotalking.train.context import Context
from emotalking.train.data import TrainingData
from emotalking.train.perceptual import PerceptualTerm, make_perceptual, with_backbone
from emotalking.train.presets import preset
from emotalking.train.stages.finetune import FinetuneStage


def stage_of(avatar: Avatar, data: TrainingData, config: TrainConfig, term: PerceptualTerm | None) -> FinetuneStage:
    """The fine-tune stage on an avatar's head, its draws the same every time."""
    draw = torch.Generator().manual_seed(0)
    return FinetuneStage(Context(avatar.head, data, config, draw, None, term))


def step(stage: FinetuneStage, iteration: int) -> float:
    """Milliseconds of a training step."""
    start = time.perf_counter()
    terms, _ = stage.losses(iteration)
    torch.stack(list(terms.values())).sum().backward()
    for optimizer in stage.optimizers.values():
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - start) * 1e3


def scores(avatar: Avatar, subject: Subject, term: PerceptualTerm, limit: int | None) -> dict[str, float]:
    """Of held-out frames: `evaluate_held_out`'s figures, and LPIPS of whole frames."""
    found = evaluate_held_out(avatar, subject, limit=limit).summary()
    data = TrainingData.load(subject, subject.val_indices[:limit], avatar.audio_features, avatar.device)
    distances = []
    with torch.no_grad():
        for frame in range(data.count):
            at = data.conditions.at(frame)
            made = avatar.render(at.viewmats, at.audio, at.aus, at.va, data.behind(frame)).rgb
            distances.append(float(term.whole(made, data.image(frame))))
    return {**found, "lpips": statistics.mean(distances)}


def main() -> None:
    args = arguments(__doc__)
    settings = [f"finetune.iterations={args.steps}", f"finetune.losses.lpips={args.weight}"]
    settings += [f"finetune.losses.lpips_last={args.steps}", f"perceptual.backbone={args.backbone}"]
    settings += [f"perceptual.patches={args.patches}"]
    config = with_backbone(override(preset("fast"), settings))
    term = make_perceptual(config, args.device)
    if term is None:
        raise SystemExit("--backbone none has nothing to measure")
    subject = Subject.open(args.subject)
    start = Avatar.load(args.avatar, args.device)
    data = TrainingData.load(subject, subject.train_indices, start.audio_features, args.device)
    kinds: dict[str, PerceptualTerm | None] = {"without": None, "with": term}
    avatars = {kind: Avatar.load(args.avatar, args.device) for kind in kinds}
    stages = {kind: stage_of(avatars[kind], data, config, chosen) for kind, chosen in kinds.items()}
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for iteration in range(args.steps):
        for kind, stage in stages.items():
            times[kind].append(step(stage, iteration))
    cost = {kind: statistics.median(taken[3:]) for kind, taken in times.items()}
    results: dict[str, Any] = {
        "steps": args.steps,
        "weight": args.weight,
        "backbone": config.perceptual.backbone,
        "patches": args.patches,
        "median_step_ms": cost,
        "ratio": cost["with"] / cost["without"],
        "held_out": {"before": scores(start, subject, term, args.frames)}
        | {kind: scores(avatar, subject, term, args.frames) for kind, avatar in avatars.items()},
    }
    print(f"a fine-tune step: {cost['without']:.1f} ms without, {cost['with']:.1f} with ({results['ratio']:.2f} times)")
    for kind, found in results["held_out"].items():
        print(f"{kind:<8} PSNR {found['psnr']:.2f}  SSIM {found['ssim']:.4f}  LPIPS {found['lpips']:.4f}")
    print(write(f"perceptual_{torch.device(args.device).type}", results))


if __name__ == "__main__":
    main()
