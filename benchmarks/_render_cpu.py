"""Finished frames on the CPU for render_speed.py: kernels without gradients against torch's operations and rasterizer.

The steps take turns, frame by frame, so that other work on the machine slows all alike; processor time (of all threads)
hardly depends on it, and the best of many repeats of the wait is the closest to a quiet machine.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

import cv2
import torch
from torch import Tensor

from emotalking.data.audio_features import audio_feature
from emotalking.models.avatar import Avatar
from emotalking.models.compositor import Conditions
from emotalking.models.fixed import FixedHead
from emotalking.models.gaussians import Gaussians, raw_scales_of
from emotalking.models.head import TalkingHead
from emotalking.ops.backends import use_backends
from emotalking.ops.compose import compose, lay_over
from emotalking.ops.composite import quantised
from emotalking.ops.geometry import to_matrix
from emotalking.ops.motion import FixedBranch, move
from emotalking.ops.splat import splat
from emotalking.player.finish import Behind, finished_frames

STEPS = {
    "torch's operations and the rasterizer": ("motion", "splat", "compose", "lay_over"),
    "motion networks in a kernel": ("splat", "compose", "lay_over"),
    "drawing too": ("compose", "lay_over"),
    "composition too": (),
}
"""Operations that run on their references, by step."""


@torch.no_grad()
def enlarged(avatar: Avatar, side: int, gaussians: int) -> Avatar:
    """``avatar`` at another size in pixels, its Gaussians split into smaller ones that cover as much."""
    scene, head = avatar.scene, avatar.head
    share = gaussians / (head.face.gaussians.count + head.mouth.gaussians.count)
    rng = torch.Generator().manual_seed(0)

    def split(of: Gaussians) -> Gaussians:
        count = round(of.count * share)
        pick = torch.arange(count) % of.count
        made, scales = Gaussians.empty(count, of.sh_degree), of.scales[pick]
        values = {name: value[pick] for name, value in of.state_dict().items()}
        place = 0.5 * scales * torch.randn(scales.shape, generator=rng)
        values["means"] = values["means"] + (to_matrix(values["raw_quats"]) @ place[..., None])[..., 0]
        values["raw_scales"] = raw_scales_of(scales / share**0.5)
        made.load_state_dict(values)
        return made

    new = TalkingHead(head.config, split(head.face.gaussians), split(head.mouth.gaussians))
    for old, branch in ((head.face, new.face), (head.mouth, new.mouth)):
        branch.audio.closed = None if old.audio.closed is None else old.audio.closed.clone()
    rest = {name: value for name, value in head.state_dict().items() if ".gaussians." not in name}
    new.load_state_dict(rest, strict=False)
    background = cv2.resize(scene.background, (side, side))
    larger = replace(scene, width=side, height=side, focal=scene.focal * side / scene.width, background=background)
    return Avatar(new, larger, avatar.metadata)


def conditions(avatar: Avatar, count: int) -> list[Conditions]:
    """Recorded poses and action units, sound at random, an emotion."""
    steps, channels = audio_feature(avatar.audio_features).shape
    sound = torch.randn(count, 8, channels, steps, generator=torch.Generator().manual_seed(0))
    va = torch.full((count, 2), 0.5)
    views, aus = (torch.from_numpy(each[:count]) for each in (avatar.viewmats, avatar.aus))
    return [Conditions(views[i : i + 1], sound[i : i + 1], aus[i : i + 1], va[i : i + 1]) for i in range(count)]


def _timed(run: Callable[[], Any]) -> tuple[float, float]:
    """Milliseconds: wait, and time of all processors."""
    begin, work = time.perf_counter(), time.process_time()
    run()
    return (time.perf_counter() - begin) * 1e3, (time.process_time() - work) * 1e3


def _summary(times: list[tuple[float, float]]) -> dict[str, float]:
    wait, work = zip(*times, strict=True)
    return {"best_ms": min(wait), "median_ms": median(wait), "best_cpu_ms": min(work), "median_cpu_ms": median(work)}


def multiplications(branch: FixedBranch) -> int:
    """Of one Gaussian."""
    layers = [branch.first, branch.second, branch.third]
    if branch.emotion is not None:
        layers += [*branch.emotion.attention, branch.emotion.first, branch.emotion.second, branch.emotion.third]
    return sum(layer.numel() for layer in layers)


def limits(fixed: FixedHead) -> dict[str, float]:
    """What a core can do, by processor time, and what the motion of the face needs of it."""
    a, values = torch.rand(1024, 1024), torch.rand(1 << 24)
    product = min(_timed(lambda: a @ a)[1] for _ in range(10))
    copy = min(_timed(values.clone)[1] for _ in range(10))
    face = fixed.face_branch
    count = len(face.gaussians)
    width = face.gaussians.shape[1] + face.hidden.shape[1] + face.attention.shape[1] + 10
    return {
        "matrix_product_gmac_per_core_s": 1024**3 / product / 1e6,
        "copy_gb_per_core_s": 2 * values.numel() * 4 / copy / 1e6,
        "motion_gmac_per_frame": count * multiplications(face) / 1e9,
        "motion_mb_per_frame": count * width * 4 / 1e6,
    }


def parts(avatar: Avatar, fixed: FixedHead, given: Conditions, torso: Tensor, plate: Tensor) -> dict[str, Any]:
    """The steps of a frame, each a function."""
    codes = fixed.face_codes(given.audio, given.aus, given.va), fixed.mouth_codes(given.audio)
    moved = move(fixed.face_branch, *codes[0]), move(fixed.mouth_branch, *codes[1])
    camera = (given.viewmats, avatar.K, avatar.width, avatar.height)
    face, mouth = splat(*moved[0], fixed.face_look, *camera), splat(*moved[1], fixed.mouth_look, *camera)
    behind = lay_over(torso[None], plate)
    rgb = compose(face, mouth, behind, frame_height=avatar.height)[0]
    return {
        "audio encoders and codes": lambda: (
            fixed.face_codes(given.audio, given.aus, given.va),
            fixed.mouth_codes(given.audio),
        ),
        "motion of face and emotion": lambda: move(fixed.face_branch, *codes[0]),
        "motion of the mouth": lambda: move(fixed.mouth_branch, *codes[1]),
        "drawing the face": lambda: splat(*moved[0], fixed.face_look, *camera),
        "drawing the mouth": lambda: splat(*moved[1], fixed.mouth_look, *camera),
        "torso over plate": lambda: lay_over(torso[None], plate),
        "composition": lambda: compose(face, mouth, behind, frame_height=avatar.height),
        "8 bit": lambda: quantised(rgb),
    }


@torch.no_grad()
def report(avatar: Avatar, count: int, repeats: int) -> dict[str, Any]:
    """Times, ratios and differences of all steps; printed, too."""
    frames = conditions(avatar, min(count, len(avatar.viewmats)))
    plate = Behind.of(None, avatar).plate
    torso = torch.from_numpy(avatar.torso(0))
    assert plate is not None
    torso = torch.from_numpy(cv2.resize(torso.numpy(), (avatar.width, avatar.height)))
    results: dict[str, Any] = {"size": [avatar.width, avatar.height], "threads": torch.get_num_threads(), "steps": {}}
    results["gaussians"] = {"face": avatar.head.face.gaussians.count, "mouth": avatar.head.mouth.gaussians.count}
    times: dict[str, list[tuple[float, float]]] = {step: [] for step in STEPS}
    images: dict[str, list[Tensor]] = {step: [] for step in STEPS}
    for repeat in range(repeats + 1):  # the first warms up
        for given in frames:
            for step, plain in STEPS.items():
                with use_backends(**dict.fromkeys(plain, "reference")):
                    made: list[Tensor] = []
                    took = _timed(lambda: made.append(finished_frames(avatar, given, [torso], [plate])))  # noqa: B023
                if repeat:
                    times[step].append(took)
                else:
                    images[step].append(made[0].int())
    first, *_, last = STEPS
    for step in STEPS:
        row = results["steps"][step] = _summary(times[step])
        base = results["steps"][first]
        row["ratio"], row["cpu_ratio"] = (base[key] / row[key] for key in ("best_ms", "best_cpu_ms"))
        print(f"{step:<38}", *(f"{key} {value:8.2f}" for key, value in row.items()), flush=True)
    off = torch.cat([(a - b).abs().flatten() for a, b in zip(images[first], images[last], strict=True)])
    results["difference_of_255"] = {"max": int(off.max()), "mean": float(off.float().mean())}
    fixed = FixedHead(avatar.head)
    runs = parts(avatar, fixed, frames[0], torso, plate)
    timed = {name: [_timed(run) for _ in range(10 * repeats)] for name, run in runs.items()}
    results["parts"] = {name: _summary(rows) for name, rows in timed.items()}
    results["limits"] = limits(fixed)
    results["frames_per_second"] = 1e3 / results["steps"][last]["best_ms"]
    results["frames_per_core_s"] = 1e3 / results["steps"][last]["best_cpu_ms"]
    for name, row in results["parts"].items():
        print(f"{name:<38}", *(f"{key} {value:8.2f}" for key, value in row.items()))
    print(*(f"{name} {value:.3g}" for name, value in results["limits"].items()), sep="\n")
    print(
        f"{results['frames_per_second']:.1f} frames/s, {results['frames_per_core_s']:.1f} a second of one core;",
        f"{results['size']}; of 255 {results['difference_of_255']}",
    )
    return results
