"""Inputs of cluster_cost.py: from result files, measured, assumed or given, each with its source."""

import argparse
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _report import RESULTS

from emotalking.io.video_writer import VideoWriter
from emotalking.models.avatar import Avatar
from emotalking.ops.devices import choose_device
from emotalking.player.streaming import StreamingPlayer, render_batch
from emotalking.serve.encoding import encode
from emotalking.serve.protocol import pack_frame

FPS = 25
RATE = 48000


@dataclass(frozen=True)
class Input:
    """A number, its meaning, and where it comes from: dotted places in result files, the first that exists counts."""

    about: str
    assumed: float | None = None
    why: str = ""
    places: tuple[str, ...] = ()


INPUTS = {
    # What is to be done.
    "subjects": Input("people", 1000, "the question"),
    "render_hours": Input("hours of video to render", 10_000, "the question"),
    "sessions": Input("live sessions at a time", 10_000, "the question"),
    "session_minutes": Input("mean length of a live session", 5, "a conversation"),
    "clip_minutes": Input("length of a rendered video", 2, "a message"),
    # Work of one of them.
    "prepare_s": Input(
        "seconds of preparing a subject on one GPU and its cores", 300, "not measured on a GPU: a minute of video"
    ),
    "train_s": Input("seconds of training (fast)", places=("train_fast_cuda.results.total_seconds",)),
    "render_fps": Input(
        "frames a second of one GPU with images on the host, many sessions together",
        places=(
            "render_graphs.results.sessions.32.host_frames_per_second",
            "render_speed_cuda.results.frames_per_second",
        ),
    ),
    "task_overhead_s": Input("seconds from a task's order to its start", 0.1, "Ray's own figures are lower"),
    "sessions_a_replica": Input(
        "live sessions of one server process that all keep 25 fps",
        16,
        "live_latency_cuda on an H200 host: 16 sessions of 512 pixels had 25 images a second each, 32 had 19",
    ),
    "cores_a_session": Input("cores of a live session", 1.65 / 16, "as the line before: 1.65 cores for 16 sessions"),
    "frame_bytes": Input("bytes of a frame's JPEG", places=("cluster_inputs.results.frame_bytes",)),
    "video_ms": Input("milliseconds of a core for a frame of H.264", places=("cluster_inputs.results.video_ms",)),
    "video_bytes": Input("bytes of a frame of H.264", places=("cluster_inputs.results.video_bytes",)),
    "avatar_bytes": Input("bytes of an avatar", places=("cluster_inputs.results.avatar_bytes",)),
    "subject_bytes": Input(
        "bytes of a prepared subject",
        1e9,
        "a minute of 512 pixels, if not measured",
        ("cluster_inputs.results.subject_bytes",),
    ),
    "controller_ms": Input(
        "milliseconds of Ray Serve's controller a second for each replica",
        places=("cluster_control.results.controller_ms_a_replica",),
    ),
    "front_places": Input("places a second that one front gives", places=("cluster_control.results.places_a_second",)),
    # Machines.
    "gpus_a_node": Input("GPUs of a node", 8, "an H200 host"),
    "cores_a_node": Input("cores of a node", 128, "an H200 host"),
    "nic_gbit": Input("network of a node [Gbit/s]", 25, "a cloud's; what clients get"),
    "share": Input("share of a GPU, a core or a network that is planned with", 0.7, "room for peaks"),
    "gpu_hours_between_failures": Input(
        "hours of one GPU between interruptions", 16_384 * 54 * 24 / 419, "Llama 3: 419 in 54 days of 16,384 GPUs"
    ),
    "repair_hours": Input("hours until a lost node is back", 24, "by hand"),
    "notice_s": Input("seconds until a replica on a lost node is replaced", 30, "3 checks of 10 s (docs/cluster.md)"),
    "start_s": Input("seconds until a new replica serves", 30, "its process, PyTorch, the avatars"),
}


def read(given: dict[str, float | None]) -> tuple[dict[str, float], dict[str, str]]:
    """Values, and a source of each.

    Raises:
        SystemExit: an input is nowhere.
    """
    values, sources = {}, {}
    for name, one in INPUTS.items():
        if (value := given.get(name)) is not None:
            values[name], sources[name] = value, "given"
            continue
        found = next(((_look_up(place), place) for place in one.places if _look_up(place) is not None), None)
        if found is not None:
            values[name], sources[name] = found[0], f"results/{found[1]}"
        elif one.assumed is not None:
            values[name], sources[name] = one.assumed, f"assumed: {one.why}"
        else:
            raise SystemExit(f"{name} ({one.about}): give it, or measure it with --measure AVATAR")
    return values, sources


def add_options(parser: argparse.ArgumentParser) -> None:
    """An option for every input."""
    for name, one in INPUTS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, help=one.about, metavar="X")


def _look_up(place: str) -> float | None:
    """The number at FILE.KEY.KEY..., if there is one."""
    file, *keys = place.split(".")
    try:
        value: Any = json.loads((RESULTS / f"{file}.json").read_text())
        for key in keys:
            value = value[key]
        return float(value)
    except (OSError, KeyError, TypeError, ValueError):
        return None


def measure(path: Path, subject: Path | None, heads: int = 4, seconds: float = 4.0) -> dict[str, Any]:
    """What one frame costs the host beside rendering, and its bytes, with heads that speak noise together.

    Times are of processors, not of a clock: other programs do not count. Run it with OMP_NUM_THREADS=1.
    """
    avatar = Avatar.load(path, choose_device("auto"))
    players = [StreamingPlayer(avatar) for _ in range(heads)]
    for number, player in enumerate(players):
        noise = np.random.default_rng(number).normal(0, 0.1, round((seconds + 1) * RATE)).astype(np.float32)
        player.push(noise, RATE)
    host, coding, sizes, images = [], [], [], []
    for tick in range(round(seconds * FPS)):
        began = time.thread_time()
        conditions = [player.conditions() for player in players]
        between = time.thread_time()
        made = render_batch(conditions)
        rendered = time.thread_time()
        frames = [player.finish(*pair) for player, *pair in zip(players, conditions, made, strict=True)]
        host.append((between - began + time.thread_time() - rendered) / heads)
        began = time.thread_time()
        coded = [pack_frame(frame, *encode(np.asarray(frame.image), "jpeg", 85)) for frame in frames]
        coding.append((time.thread_time() - began) / heads)
        sizes += [len(one) for one in coded]
        images.append(np.asarray(made[tick % heads]))
    with tempfile.TemporaryDirectory() as folder:
        before = time.process_time()
        with VideoWriter(Path(folder, "out.mp4"), avatar.width, avatar.height, avatar.fps) as writer:
            for image in [one for _ in range(2) for one in images]:
                writer.write(image)
        count = 2 * len(images)
        video_bytes, video_s = os.path.getsize(Path(folder, "out.mp4")) / count, time.process_time() - before
    measured = {
        "size": [avatar.width, avatar.height],
        "device": torch.cuda.get_device_name() if avatar.device.type == "cuda" else "cpu",
        "heads": heads,
        "host_ms": 1e3 * float(np.median(host)),
        "encode_ms": 1e3 * float(np.median(coding)),
        "frame_bytes": float(np.mean(sizes)),
        "video_ms": 1e3 * video_s / count,
        "video_bytes": video_bytes,
        "avatar_bytes": path.stat().st_size,
    }
    if subject is not None:
        measured["subject_bytes"] = sum(file.stat().st_size for file in subject.rglob("*") if file.is_file())
    return measured
