"""Frames by CUDA graphs (player/graphs.py): one stream, sessions together, and several GPUs.

The floor of one frame of 512x512 with 39,000 face and 2,200 mouth Gaussians, emotion on. Bytes through device memory:
constants of the motion networks 19 MB, coefficients of the colours 4, moved Gaussians 5, records 4, keys in four passes
of sorting 4, two layers of 16 bytes a pixel written and read 17, coverage, torso, plate and image 7: together
60 MB, 13 us at the 4.7 TB/s that a copy reaches. Operations: 1.3 GFLOP of the motion networks, 2 us on tensor cores in
half precision; blending 60 pixels a Gaussian and 20 operations each, 50 MFLOP, 1 us. A frame to the host: 0.8 MB, 15 us
at 50 GB/s. What one frame takes beyond that is latency: some 60 kernels in a row, and the tile with the most Gaussians.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from emotalking.data.audio_features import audio_feature
from emotalking.models.avatar import Avatar
from emotalking.models.compositor import Conditions
from emotalking.ops.backends import use_backends
from emotalking.player import finish
from emotalking.player.finish import Behind, finished_frames, on_host
from emotalking.player.on_device import graphs_of, torsos_of
from emotalking.provenance.mark import Mark
from emotalking.provenance.payload import Payload

SESSIONS = (1, 2, 4, 8, 16, 32, 64)
FPS = 25
TOP = 14

Frames = tuple[Conditions, list[Tensor], list[Tensor]]


def frames_of(avatar: Avatar, count: int, start: int = 0) -> Frames:
    """Conditions on the host, as sessions give them; torso layers and plates on the GPU."""
    steps, channels = audio_feature(avatar.audio_features).shape
    picked = (np.arange(count) * 7 + start) % len(avatar.viewmats)
    rng = torch.Generator().manual_seed(start)
    sound = torch.randn(count, 8, channels, steps, generator=rng)
    va = torch.rand(count, 2, generator=rng) - 0.3
    speech = torch.ones(count) if avatar.closes_lips else None
    conditions = Conditions(
        torch.from_numpy(avatar.viewmats[picked]), sound, torch.from_numpy(avatar.aus[picked]), va, speech
    )
    layers, plate = torsos_of(avatar), Behind.of(None, avatar).plate
    assert plate is not None
    return conditions, [layers(int(index)) for index in picked], [plate] * count


def _rate(run: Callable[[int], Any], count: int, device: torch.device, seconds: float = 1.0) -> float:
    """Frames per second of ``run``, which makes ``count`` frames a call."""
    for turn in range(5):
        run(turn)
    torch.cuda.synchronize(device)
    begin, calls = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        for turn in range(10):
            run(turn)
        torch.cuda.synchronize(device)
        calls += 10
    return calls * count / (time.perf_counter() - begin)


def _gpu_us(launch: Callable[[], None], repeats: int = 30) -> float:
    """Microseconds of a launch on the GPU, one after the other: median."""
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repeats)]
    for begin, end in events:
        begin.record()
        launch()
        end.record()
    torch.cuda.synchronize()
    return float(np.median([begin.elapsed_time(end) for begin, end in events])) * 1e3


def _kernels(launch: Callable[[], None], repeats: int = 10) -> dict[str, Any]:
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        for _ in range(repeats):
            launch()
        torch.cuda.synchronize()
    rows = sorted(seen.key_averages(), key=lambda event: -event.self_device_time_total)
    return {
        "sum_us": sum(row.self_device_time_total for row in rows) / repeats,
        "launches": sum(row.count for row in rows) / repeats,
        "top": {
            row.key[:90]: [round(row.self_device_time_total / repeats, 1), row.count / repeats] for row in rows[:TOP]
        },
    }


def _launch_of(avatar: Avatar, count: int, mark: Mark | None = None) -> Callable[[], None]:
    """The launch of the graph that makes so many frames."""
    frames = frames_of(avatar, count)
    finished_frames(avatar, *frames, mark=mark)
    graphs = graphs_of(avatar)
    assert graphs is not None, "this avatar is not rendered by graphs"
    found = next(one for kind, one in graphs._known.items() if kind.frames == count and kind.mark == mark)

    def launch() -> None:
        assert frames  # the graph reads these
        found.launch()

    return launch


def _plainly(avatar: Avatar, frames: Frames, mark: Mark | None = None) -> Tensor:
    """The same frames as before: one launch after another, motion networks and composition by torch."""
    before = finish.graphs_of
    finish.graphs_of = lambda _: None  # type: ignore[assignment]
    try:
        with use_backends(motion="reference", splat="reference", compose="reference"):
            return finished_frames(avatar, *frames, mark=mark)
    finally:
        finish.graphs_of = before


def differences(avatar: Avatar, counts: Sequence[int] = (1, 5, 32)) -> dict[str, float]:
    """Of images by graphs and plainly, in levels of 255."""
    means, most = [], []
    for count in counts:
        for start in (3, 11):
            frames = frames_of(avatar, count, start)
            off = (finished_frames(avatar, *frames).float() - _plainly(avatar, frames).float()).abs()
            means.append(float(off.mean()))
            most.append(float(off.max()))
    return {"mean": max(means), "max": max(most)}


def single(avatar: Avatar) -> dict[str, Any]:
    """One stream: frames per second on the device and on the host, one frame or eight at a time."""
    found: dict[str, Any] = {}
    mark = Mark(Payload(1))
    for count in (1, 8):
        sets = [frames_of(avatar, count, start) for start in range(10)]
        found[str(count)] = {
            "device": _rate(lambda turn, sets=sets: finished_frames(avatar, *sets[turn]), count, avatar.device),
            "host": _rate(lambda turn, sets=sets: on_host(finished_frames(avatar, *sets[turn])), count, avatar.device),
            "host_marked": _rate(
                lambda turn, sets=sets: on_host(finished_frames(avatar, *sets[turn], mark=mark)), count, avatar.device
            ),
            "plain_device": _rate(lambda turn, sets=sets: _plainly(avatar, sets[turn]), count, avatar.device),
            "plain_host": _rate(lambda turn, sets=sets: on_host(_plainly(avatar, sets[turn])), count, avatar.device),
            "gpu_us": _gpu_us(_launch_of(avatar, count)),
            "gpu_us_marked": _gpu_us(_launch_of(avatar, count, mark)),
        }
        found[str(count)]["ratio_device"] = found[str(count)]["device"] / found[str(count)]["plain_device"]
    return found


def sessions(avatar: Avatar) -> dict[str, Any]:
    """Ticks of many sessions: time on the GPU and its share at 25 fps; frames per second with images on the host."""
    found: dict[str, Any] = {}
    for count in SESSIONS:
        frames = frames_of(avatar, count)
        gpu = _gpu_us(_launch_of(avatar, count))
        host = _rate(lambda _, frames=frames: on_host(finished_frames(avatar, *frames)), count, avatar.device, 0.5)
        found[str(count)] = {
            "gpu_us": gpu,
            "gpu_us_a_frame": gpu / count,
            "gpu_share": gpu * 1e-6 * FPS,
            "host_frames_per_second": host,
        }
    return found


def scaling(avatars: Sequence[Avatar], count: int = 32, seconds: float = 1.0) -> dict[str, float]:
    """Frames per second, images on the host, of one GPU and of all at once, a thread each."""
    sets = [frames_of(avatar, count) for avatar in avatars]

    def drive(which: int, made: list[float]) -> None:
        with torch.cuda.device(avatars[which].device):
            images = lambda _: on_host(finished_frames(avatars[which], *sets[which]))  # noqa: E731
            made[which] = _rate(images, count, avatars[which].device, seconds)

    found = {}
    for number in range(1, len(avatars) + 1):
        made = [0.0] * len(avatars)
        threads = [threading.Thread(target=drive, args=(which, made)) for which in range(number)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found[str(number)] = sum(made)
    return found


def report(path: Any, avatar: Avatar) -> dict[str, Any]:
    """All of it; what fails is said in its place."""
    devices = range(torch.cuda.device_count())
    parts: dict[str, Callable[[], Any]] = {
        "difference": lambda: differences(avatar),
        "single": lambda: single(avatar),
        "sessions": lambda: sessions(avatar),
        "kernels_1": lambda: _kernels(_launch_of(avatar, 1)),
        "kernels_32": lambda: _kernels(_launch_of(avatar, 32)),
        "gpus": lambda: scaling([avatar, *(Avatar.load(path, f"cuda:{n}") for n in devices if n)]),
    }
    found: dict[str, Any] = {}
    for name, part in parts.items():
        try:
            found[name] = part()
        except Exception as error:  # the other figures are worth having
            found[name] = {"failed": f"{type(error).__name__}: {error}"}
        print(name, found[name], flush=True)
    return found
