"""Cost of the sync loss: time of a training step of each stage without it, with it, and the share it takes.

python benchmarks/sync_loss.py SUBJECT AVATAR [--preset fast] [--device cpu] [--expert personal] [--speech espeak]
    [--steps 40]

AVATAR is a trained one of the subject, so that the steps have the Gaussians of a run's end. Both kinds of steps are
timed in turns in the same process; a step is losses, backward and optimizer, as the trainer does it. The share is that
of the preset, with its term every n-th iteration.
"""

import statistics
import time
from typing import Any

import torch
from _report import arguments, write

from emotalking.data import Subject
from emotalking.io.settings import override
from emotalking.models.avatar import Avatar
from emotalking.train.context import Context
from emotalking.train.data import TrainingData
from emotalking.train.presets import preset
from emotalking.train.run import emotion_generator
from emotalking.train.stages.emotion import EmotionStage
from emotalking.train.stages.face import FaceStage
from emotalking.train.stages.mouth import MouthStage
from emotalking.train.step import Stage
from emotalking.train.sync import first_iteration, make_sync


def step_ms(stage: Stage, iteration: int) -> float:
    """One training step; the model does not change (rates are 0), so that steps stay comparable."""
    synchronize()
    start = time.perf_counter()
    terms, _ = stage.losses(iteration)
    torch.stack(list(terms.values())).sum().backward()
    for optimizer in stage.optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = 0.0
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    synchronize()
    return (time.perf_counter() - start) * 1e3


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def quartiles(times: list[float]) -> dict[str, float]:
    low, median, high = statistics.quantiles(times, n=4)
    return {"median_ms": median, "q1_ms": low, "q3_ms": high, "steps": len(times)}


def cost(stage: Stage, every: int, first: int, steps: int) -> dict[str, Any]:
    """Steps without and with a term in turns, after a few of each."""
    times: dict[bool, list[float]] = {False: [], True: []}
    for number in range(steps + 3):
        for with_term in (False, True):
            took = step_ms(stage, first + every * number + (0 if with_term else 1))
            if number >= 3:
                times[with_term].append(took)
    plain, synced = (quartiles(times[with_term]) for with_term in (False, True))
    term = synced["median_ms"] - plain["median_ms"]
    return {
        "plain": plain,
        "with_term": synced,
        "term_ms": term,
        "ratio_of_a_step_with_term": synced["median_ms"] / plain["median_ms"],
        "ratio_at_the_presets_interval": (plain["median_ms"] + term / every) / plain["median_ms"],
        "share_of_time": (term / every) / (plain["median_ms"] + term / every),
    }


def main() -> None:
    args = arguments(__doc__)
    settings = [f"sync.expert={args.expert}", f"sync.speech={args.speech}", "optim.audio=1e-4"]
    config = override(preset(args.preset), settings)
    every, device = max(2, config.sync.every), torch.device(args.device)
    config = override(config, [f"sync.every={every}"])
    subject, head = Subject.open(args.subject), Avatar.load(args.avatar, device).head
    data = TrainingData.load(subject, subject.train_indices, head.config.audio.features, device)
    began = time.perf_counter()
    sync = make_sync(config, subject, data, args.avatar.parent, fresh=False)
    results: dict[str, Any] = {"preset": args.preset, "every": every, "start_s": time.perf_counter() - began}
    assert sync is not None
    results |= {"expert": sync.expert.name, "window_px": list(sync.size)}
    results["gaussians"] = {"face": head.face.gaussians.count, "mouth": head.mouth.gaussians.count}
    context = Context(head, data, config, torch.Generator().manual_seed(0), sync)
    stages: dict[str, tuple[Any, int, int]] = {
        "mouth": (lambda: MouthStage(context), config.mouth.warmup, config.mouth.iterations),
        "face": (lambda: FaceStage(context), config.face.warmup, config.face.iterations),
    }
    if head.emotion is not None:
        maker = emotion_generator(data)
        stages["emotion"] = (lambda: EmotionStage(context, maker), 0, config.emotion.iterations)
    for name, (build, warmup, iterations) in stages.items():
        first = first_iteration(config.sync, warmup, iterations)
        results[name] = cost(build(), every, first, args.steps)
        found = results[name]
        print(
            f"{name:<8} {found['plain']['median_ms']:8.2f} ms, {found['with_term']['median_ms']:8.2f} with a term: "
            f"every {every} iterations {100 * found['share_of_time']:.1f} % of the time, "
            f"{found['ratio_at_the_presets_interval']:.3f} of the time without"
        )
    print(write(f"sync_loss_{args.preset}_{device.type}", results))


if __name__ == "__main__":
    main()
