"""Training steps: face, emotion with its targets, and mouth, against the plain loop in the same run.

    python benchmarks/train_speed.py SUBJECT [--face 40000] [--mouth 10000] [--steps 200] [--device cuda|cpu]

On a GPU, steps a second of `fast`. The plain loop is `gpu=gsplat`: gsplat, torch operations, and one launch after
another. Against it stands the default; what each of its changes gives is measured by adding one after the other. A full
face step renders colours, normals and attention, takes all terms, and updates both optimizers. Where the time goes is
profiled before and after.

On a CPU, processor time of a step of `tiny` (its face has about --face 8700 --mouth 600; --steps 10 are enough), in
turn without and with the kernels that training alone has: motion networks, colours, image losses, moved images.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from _report import arguments, write
from torch.profiler import ProfilerActivity, profile

from emotalking.data import Subject
from emotalking.io.settings import override
from emotalking.ops.backends import own_kernels, use_backends
from emotalking.train.context import Context
from emotalking.train.data import TrainingData
from emotalking.train.presets import preset
from emotalking.train.run import build_head, emotion_generator, resolve_config
from emotalking.train.stages.emotion import EmotionStage
from emotalking.train.stages.face import FaceStage
from emotalking.train.stages.mouth import MouthStage
from emotalking.train.step import Stage, Steps, steps_of

NORMALS = "losses.normal=0.05", "losses.normal_tv=0.005"
SETTINGS = [
    *(f"{stage}.{part}" for stage in ("face", "emotion") for part in NORMALS),
    "face.losses.normal_residual=0.001",
    "face.losses.attention=1e-4",
    *(f"{stage}.{part}" for stage in ("face", "mouth") for part in ("densify.every=1000000000", "sh_every=1")),
    *(f"{stage}.densify.until=1000000" for stage in ("face", "mouth")),
    "audio_pretraining=0",
    "motion_pretraining=100",
]
"""The paper's terms where it has some, else `fast`; the number of Gaussians stays."""
FIRST = 2_000
"""Iteration of the first step: after the warm-ups, all degrees of the colours."""
PROFILED = 10
"""Steps."""


OPERATIONS = {
    "rasterizer": {"rasterize": "gsplat"},
    "tri-plane": {"triplane": "reference"},
    "losses": {"similarity": "reference"},
    "colours and normals": {"view_colours": "reference", "camera_normals": "reference"},
}
"""Replacement of each operation without its kernel."""
PLAIN_ON_CPU = dict.fromkeys(("network", "view_colours", "similarity", "invert_field", "remap"), "reference")
"""The same on a CPU."""


@contextmanager
def loop(stage: Stage, fast: int, graphs: bool) -> Iterator[Callable[[int], Any]]:
    """What takes a step, with the first ``fast`` of the operations' kernels in use."""
    with ExitStack() as stack:
        stack.enter_context(own_kernels(stage.context.own_kernels))
        for chosen in list(OPERATIONS.values())[fast:] if stage.context.own_kernels else ():
            stack.enter_context(use_backends(**chosen))
        if graphs:
            yield stack.enter_context(steps_of(stage)).step
        else:
            yield Steps(stage).step


def rate(take: Callable[[int], Any], steps: int, repeats: int = 3) -> dict[str, float]:
    """Steps a second, median of the repeats and the extremes."""
    at, rates = FIRST, []
    for _ in range(10):
        at += 1
        take(at)
    for _ in range(repeats):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(steps):
            at += 1
            take(at)
        torch.cuda.synchronize()
        rates.append(steps / (time.perf_counter() - start))
    return {"steps_per_second": median(rates), "least": min(rates), "most": max(rates)}


def waits(take: Callable[[int], Any]) -> dict[str, float]:
    """Host-device synchronisations per step, by source line."""
    found: dict[str, int] = {}
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for at in range(PROFILED):
            take(FIRST + at)
    torch.cuda.set_sync_debug_mode("default")
    for each in caught:
        if "synchronizing" in str(each.message):
            line = f"{Path(each.filename).name}:{each.lineno}"
            found[line] = found.get(line, 0) + 1
    return {line: count / PROFILED for line, count in sorted(found.items(), key=lambda item: -item[1])}


def where(take: Callable[[int], Any]) -> dict[str, Any]:
    """Kernels a step, the GPU's busy share, and the kernels that take most [microseconds a step]."""
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        for at in range(PROFILED):
            take(FIRST + at)
        torch.cuda.synchronize()
    spans: list[tuple[float, float]] = []
    kernels: dict[str, list[float]] = {}
    for event in seen.events() or ():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            begin, end = event.time_range.start, event.time_range.end
            spans.append((begin, end))
            kernels.setdefault(event.name[:90], []).append(end - begin)
    if not spans:
        return {}
    spans.sort()
    busy, reached = 0.0, spans[0][0]
    for begin, end in spans:
        busy += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    top = sorted(kernels.items(), key=lambda item: -sum(item[1]))[:25]
    return {
        "kernels": sum(map(len, kernels.values())) / PROFILED,
        "busy_us": busy / PROFILED,
        "busy_share": busy / (reached - spans[0][0]),
        "top": {name: {"us": sum(took) / PROFILED, "count": len(took) / PROFILED} for name, took in top},
    }


def measured(gsplat: Stage, ours: Stage, steps: int, ladder: bool) -> dict[str, Any]:
    """All of one stage: by the plain loop, then with one change after the other."""
    results: dict[str, Any] = {}
    rungs = [("plain", gsplat, 0, False)]
    if ladder:
        rungs += [(f"+ {name}", ours, number, False) for number, name in enumerate(OPERATIONS, start=1)]
    rungs.append(("+ graphs" if ladder else "all", ours, len(OPERATIONS), True))
    for name, stage, fast, graphs in rungs:
        with loop(stage, fast, graphs) as take:
            results[name] = rate(take, steps if graphs else max(10, steps // 5))
            if name in (rungs[0][0], rungs[-1][0]):
                results[name] |= {"waits_a_step": waits(take), "profile": where(take)}
        line = f"{stage.name:<8} {name:<24} {results[name]['steps_per_second']:8.1f} steps/s"
        print(line, f"ratio {results[name]['steps_per_second'] / results['plain']['steps_per_second']:.2f}", flush=True)
    return results


def processor_times(stage: Stage, steps: int, repeats: int = 5) -> dict[str, Any]:
    """Milliseconds of processor time a step, without and with the kernels of training, in turn."""
    took: dict[str, list[float]] = {"plain": [], "kernels": []}
    with steps_of(stage) as run:
        for number in range(repeats + 1):
            for name, chosen in (("plain", PLAIN_ON_CPU), ("kernels", {})):
                with use_backends(**chosen):
                    start = time.process_time()
                    for step in range(number * steps, (number + 1) * steps):
                        run.step(FIRST + step)
                    took[name].append((time.process_time() - start) / steps * 1e3)
    rows = {
        name: {"ms": median(each[1:]), "least": min(each[1:]), "most": max(each[1:])} for name, each in took.items()
    }
    result = rows | {"ratio": rows["kernels"]["ms"] / rows["plain"]["ms"]}
    print(stage.name, result, flush=True)
    return result


def on_cpu(args: argparse.Namespace, subject: Subject) -> dict[str, Any]:
    """The stages of `tiny` on a CPU."""
    sizes = [f"model.{name}.initial_points={getattr(args, name)}" for name in ("face", "mouth")]
    settings = [setting for setting in SETTINGS if "normal" not in setting and "attention" not in setting]
    config = resolve_config(override(preset("tiny"), [*settings, *sizes, "emotion.pretraining=0"]), subject)
    data = TrainingData.load(subject, subject.train_indices, config.model.audio.features, "cpu")
    generator = torch.Generator().manual_seed(0)
    context = Context(build_head(config, data, generator), data, config, generator)
    results: dict[str, Any] = {"size": list(data.size)}
    for build in (FaceStage, MouthStage, lambda context: EmotionStage(context, emotion_generator(data))):
        stage = build(context)
        results[stage.name] = processor_times(stage, args.steps)
    return results


def main() -> None:
    args = arguments(__doc__)
    subject = Subject.open(args.subject)
    if args.device == "cpu":
        print(
            write(
                "train_speed_cpu",
                {"arguments": vars(args) | {"subject": subject.files.root.name}} | on_cpu(args, subject),
            )
        )
        return
    sizes = [f"model.{name}.initial_points={getattr(args, name)}" for name in ("face", "mouth")]
    config = override(preset("fast"), [*SETTINGS, *sizes])
    data = TrainingData.load(subject, subject.train_indices, config.model.audio.features, "cuda", normals=True)
    generator = torch.Generator().manual_seed(0)
    head = build_head(config, data, generator)
    gsplat, ours = (Context(head, data, replace(config, gpu=gpu), generator) for gpu in ("gsplat", "kernels"))
    results: dict[str, Any] = {
        "arguments": {"face": args.face, "mouth": args.mouth, "steps": args.steps},
        "size": list(data.size),
        "frames": data.count,
    }
    stages: list[Callable[[Context], Stage]] = [
        FaceStage,
        MouthStage,
        lambda context: EmotionStage(context, emotion_generator(data)),
    ]
    for build in stages:
        stage = build(ours)
        with steps_of(stage) as steps:  # what stands on a face after some training is what steps are about
            for iteration in range(300):
                steps.step(FIRST + iteration)
        torch.cuda.reset_peak_memory_stats()
        results[stage.name] = measured(build(gsplat), stage, args.steps, stage.name == "face")
        results[stage.name]["memory_mib"] = torch.cuda.max_memory_allocated() / 2**20
        write("train_speed", results)
    print(write("train_speed", results))


if __name__ == "__main__":
    main()
