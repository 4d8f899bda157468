"""Frames per second of an avatar file, one frame at a time, and what makes them: constants kept, own kernels, graphs.

python benchmarks/render_speed.py AVATAR [--device cpu] [--frames 20] [--repeats 5] [--only-graphs] [--side N]
    [--gaussians 41000]

On the CPU: finished frames by kernels without gradients against torch's operations and the differentiable rasterizer
(_render_cpu.py), of the avatar as it is or enlarged. ATEN_CPU_CAPABILITY=avx2 limits PyTorch and a wheel's kernels; a
checkout compiles its kernels for the machine, unless CXX and XDG_CACHE_HOME name another compiler and folder.

On a GPU the baseline recomputes what is constant for an avatar; it renders with gsplat, where that is installed, and
torch's own operations. One change after the other is added to it in the same run. Profiles (what an operation or kernel
takes of a frame) come from the first and the last; the largest difference of their pictures says that they agree.

On a GPU finished frames by CUDA graphs follow (_render_graphs.py, with the floor of a frame): one stream with images on
the device and on the host, 1 to 64 sessions together, all GPUs at once, and the ratio to launching one kernel after
another in the same run; ``--only-graphs`` measures these alone.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import _render_cpu
import _render_graphs
import torch
from _report import arguments, line, measure, ratio, write
from torch.profiler import ProfilerActivity, profile

from emotalking.data.audio_features import audio_feature
from emotalking.models.avatar import Avatar
from emotalking.ops.backends import own_kernels

TOP = 12
"""Operations of a profile that are kept."""


def renderer(avatar: Avatar, count: int, device: torch.device) -> Callable[[bool], torch.Tensor]:
    """Renders ``count`` frames, one by one; with ``forget`` every one from nothing. Gives the last, [1, H, W, 3]."""
    steps, channels = audio_feature(avatar.audio_features).shape
    views = torch.from_numpy(avatar.viewmats[:count]).to(device)
    aus = torch.from_numpy(avatar.aus[:count]).to(device)
    sound = torch.randn(count, 8, channels, steps, generator=torch.Generator().manual_seed(0)).to(device)
    va = torch.full((count, 2), 0.5, device=device)
    behind = torch.from_numpy(avatar.background).to(device)[None].float() / 255.0

    def render(forget: bool) -> torch.Tensor:
        made = torch.empty(0)
        for i in range(count):
            if forget:
                avatar.to(device)  # Moving an avatar drops its constants.
            pick = slice(i, i + 1)
            made = avatar.render(views[pick], sound[pick], aus[pick], va[pick], behind).rgb
        return made

    return render


def profiled(run: Callable[[], Any], frames: int) -> dict[str, Any]:
    """Microseconds and launches a frame of the kernels that take longest."""
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        run()
    rows = [(event.key, event.self_device_time_total, event.count) for event in seen.key_averages()]
    rows.sort(key=lambda row: -row[1])
    return {
        "microseconds": sum(row[1] for row in rows) / frames,
        "launches": sum(row[2] for row in rows) / frames,
        "top": {key: {"us": took / frames, "count": calls / frames} for key, took, calls in rows[:TOP]},
    }


def _counts(avatar: Avatar) -> dict[str, int]:
    return {"face": avatar.head.face.gaussians.count, "mouth": avatar.head.mouth.gaussians.count}


def main() -> None:
    args = arguments(__doc__)
    device = torch.device(args.device)
    avatar = Avatar.load(args.avatar, device)
    if device.type == "cpu":
        if args.side:
            avatar = _render_cpu.enlarged(avatar, args.side, args.gaussians)
        results = _render_cpu.report(avatar, args.frames, args.repeats)
        level = torch.backends.cpu.get_cpu_capability()
        suffix = "" if level == "AVX512" else f"_{level.lower()}"
        write(
            f"render_speed_cpu_{avatar.width}{suffix}",
            {"instructions": level, "enlarged": args.side is not None, **results},
        )
        return
    shape = {"size": [avatar.width, avatar.height], "gaussians": _counts(avatar)}
    write("render_graphs", {**shape, **_render_graphs.report(args.avatar, avatar)})
    if args.only_graphs:
        return
    count = min(args.frames, len(avatar.viewmats))
    render = renderer(avatar, count, device)
    ladder = [("constants recomputed", True, True), ("constants kept", False, True)]
    if find_spec("gsplat"):
        ladder = [("gsplat, constants recomputed", True, False), ("gsplat, constants kept", False, False)]
        ladder += [("own kernels, constants kept", False, True)]
    steps: dict[str, Any] = {}
    pictures = []
    for name, forget, own in ladder:
        with own_kernels(own), torch.no_grad():
            avatar.to(device)
            steps[name] = {"timing": measure(lambda forget=forget: render(forget), args.repeats, warmup=1)}
            if name in (ladder[0][0], ladder[-1][0]):
                pictures.append(render(forget))
                steps[name]["profile"] = profiled(lambda forget=forget: render(forget), count)
        steps[name]["frames_per_second"] = count * 1e3 / steps[name]["timing"]["median_ms"]
        steps[name]["ratio"] = ratio(steps[ladder[0][0]]["timing"], steps[name]["timing"])
        print(line(f"{count} frames, {name}", steps[name]["timing"]), f"ratio {steps[name]['ratio']:.2f}", flush=True)
    off = (pictures[0] - pictures[-1]).abs()
    rate = steps[ladder[-1][0]]["frames_per_second"]
    print(f"{rate:.1f} frames/s, {avatar.width}x{avatar.height}; difference {off.mean():.1e}, at most {off.max():.1e}")
    write(
        f"render_speed_{device.type}",
        {
            "size": [avatar.width, avatar.height],
            "gaussians": _counts(avatar),
            "frames_per_second": rate,
            "steps": steps,
            "difference": {"max": float(off.max()), "mean": float(off.mean())},
        },
    )


if __name__ == "__main__":
    main()
