"""How soon a live head answers: sound in to frame out, the first frame, an interruption, and what a frame costs.

    python benchmarks/live_latency.py AVATAR ... [--speech FILE] [--device cpu] [--seconds 20.0] [--frames 100]
        [--look-aheads 80 160 ...] [--sessions 1 2 4 ...] [--served N ...] [--lips] [--name NAME] [--out FOLDER]

Without a server: the player alone. Sound comes in pieces of 20 ms at the pace of a microphone, and frames are taken at
their deadlines. Reported are the median and the 99th percentile in milliseconds of

- `first_frame_ms`: from the first sample of an utterance to the image of its first frame;
- `sound_to_frame_ms`: from the arrival of the last sample of a frame's own sound to its image;
- `interruption_ms`: from `clear` to the image of the next frame, which has no sound, at a random time of a frame;
- `conditions_ms`, `render_ms`: time of the two calls that make a frame, back to back, and `conditions_cpu_ms`,
  `render_cpu_ms`: the process's processor time of them, which other programs on the machine hardly change;
- `first_after_minutes_ms`: the first frame after five minutes of sound were pushed at once.

`sessions` renders the frames of so many players in one call: time of a frame of all of them, how many could be served
at the avatar's frame rate, and `conditions_ms` of it for each. `--served` runs the scheduler of the server with so many
sessions in real time, each with a sound of its own and its images encoded, without the network. `--lips` compares lips
driven live and by the whole file: the first principal component of the face's motion by speech (mostly the mouth's
opening), for each look-ahead.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _report import arguments, write

from emotalking.audio.vad_stream import know_gates
from emotalking.io.audio import SAMPLE_RATE, load_audio
from emotalking.models.avatar import Avatar
from emotalking.player.lips import mouth_windows
from emotalking.player.player import Player
from emotalking.player.streaming import FrameConditions, StreamingPlayer, render_batch
from emotalking.testing.actor.performance import Performance

PIECE_S = 0.02
UTTERANCE_S, PAUSE_S = 2.0, 0.6


def spread(milliseconds: list[float]) -> dict[str, float]:
    """Median and 99th percentile."""
    return {
        "median": statistics.median(milliseconds),
        "p99": float(np.percentile(milliseconds, 99)),
        "count": len(milliseconds),
    }


def timed(run: Callable[[], Any], avatar: Avatar) -> tuple[float, float, Any]:
    """Milliseconds of a call with the device's work, milliseconds of processor time, and its result."""
    begin, worked = time.perf_counter(), time.process_time()
    made = run()
    if avatar.device.type == "cuda":
        torch.cuda.synchronize(avatar.device)
    return (time.perf_counter() - begin) * 1e3, (time.process_time() - worked) * 1e3, made


def paced(avatar: Avatar, speech: np.ndarray, look_ahead: int, seconds: float) -> dict[str, Any]:
    """Utterances at the pace of a microphone, every second one interrupted."""
    player = StreamingPlayer(avatar, look_ahead_ms=look_ahead, sample_rate=SAMPLE_RATE)
    next(player)
    fps, rng = float(avatar.fps), np.random.default_rng(0)
    found: dict[str, list[float]] = {"first_frame_ms": [], "sound_to_frame_ms": [], "interruption_ms": []}
    late = frames = number = 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        number += 1
        begin, pushed, spoken, due = time.perf_counter(), 0, 0, 1
        stop = rng.uniform(0.8, 1.6) if number % 2 else UTTERANCE_S + PAUSE_S
        while (now := time.perf_counter() - begin) < stop:
            while pushed < UTTERANCE_S / PIECE_S and now >= (pushed + 1) * PIECE_S:  # a piece comes when it is complete
                at = round(pushed * PIECE_S * SAMPLE_RATE)
                player.push(speech[at : at + round(PIECE_S * SAMPLE_RATE)], SAMPLE_RATE)
                pushed += 1
                if pushed == round(UTTERANCE_S / PIECE_S):
                    player.flush()
            if now < due / fps:
                time.sleep(max(0.0, min(due / fps, (pushed + 1) * PIECE_S) - now))
                continue
            frame = next(player)
            after = time.perf_counter() - begin
            frames, due = frames + 1, due + 1
            late += after > due / fps
            if frame.utterance == player.utterance:
                spoken += 1
                if spoken == 1:
                    found["first_frame_ms"].append(after * 1e3)
                found["sound_to_frame_ms"].append((after - frame.position_s) * 1e3)
        if number % 2:
            cut = time.perf_counter()
            player.clear()
            time.sleep(max(0.0, due / fps - (cut - begin)))
            frame = next(player)
            assert frame.utterance is None and not frame.audio.any()
            found["interruption_ms"].append((time.perf_counter() - cut) * 1e3)
    return {name: spread(values) for name, values in found.items() if values} | {"frames": frames, "late": late}


def costs(avatar: Avatar, speech: np.ndarray, look_ahead: int, frames: int) -> dict[str, Any]:
    """Milliseconds of the calls that make a frame of speech."""
    player = StreamingPlayer(avatar, look_ahead_ms=look_ahead)
    long = np.tile(speech, int(300 * SAMPLE_RATE / len(speech)))
    begin = time.perf_counter()
    player.push(long, SAMPLE_RATE)
    next(player)
    first = (time.perf_counter() - begin) * 1e3
    rows = []
    for _ in range(frames):
        took, worked, made = timed(player.conditions, avatar)
        rows.append((took, worked, *timed(lambda made=made: render_batch([made]), avatar)[:2]))
    names = ("conditions_ms", "conditions_cpu_ms", "render_ms", "render_cpu_ms")
    found = {name: spread(list(column)) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    return found | {"first_after_minutes_ms": first}


def many(avatar: Avatar, speech: np.ndarray, sessions: int, frames: int) -> dict[str, Any]:
    """Milliseconds of one frame of all of so many players, each saying something else."""
    players = [StreamingPlayer(avatar, seed=number, emotion="happy") for number in range(sessions)]
    for number, player in enumerate(players):
        player.push(np.roll(np.tile(speech, 4), number * 7000), SAMPLE_RATE)

    def conditions() -> list[FrameConditions]:
        know_gates([asked for player in players if (asked := player.hear()) is not None])
        return [player.conditions() for player in players]

    took, worked, each = [], [], []
    for _ in range(frames):
        made, cpu, ready = timed(conditions, avatar)
        worked.append(cpu / sessions)
        each.append(made / sessions)
        took.append(made + timed(lambda ready=ready: render_batch(ready), avatar)[0])
    found = spread(took[2:])
    return {
        "frame_ms": found,
        "frames_per_second_each": 1e3 / found["median"],
        "conditions_ms": spread(each[2:]),
        "conditions_cpu_ms": spread(worked[2:]),
    }


@torch.no_grad()
def lips(avatar: Avatar, speech: np.ndarray, look_aheads: list[int]) -> dict[str, Any]:
    """Live lips against those of the whole file, without and with the gate."""
    head, device = avatar.head, avatar.device
    canonical = head.face.motion.canonical(head.face.gaussians.means)
    total = len(speech) * avatar.fps // SAMPLE_RATE
    player = Player(avatar)
    track = player.audio_features(speech)
    windows = track.features.windows(0, total, avatar.fps, total)
    gate = None if track.voice_activity is None else track.voice_activity.frames(0, total, avatar.fps)

    def motion(windows: torch.Tensor, gate: np.ndarray | None) -> torch.Tensor:
        parts = []
        for pick in torch.arange(len(windows)).split(32):
            part = windows[pick].to(device)
            speech = None if gate is None else torch.from_numpy(gate[pick].astype(np.float32)).to(device)
            aus = torch.zeros(len(part), 6, device=device)
            parts.append(head.deform_face(part, aus, canonical, speech=speech).means.flatten(1).cpu())
        return torch.cat(parts)

    whole = motion(windows, gate)
    mean = whole.mean(0)
    _, _, directions = torch.pca_lowrank(whole - mean, q=2, center=False)
    opening = ((whole - mean) @ directions[:, 0]).numpy()
    found = {}
    for look_ahead in look_aheads:
        live = StreamingPlayer(avatar, look_ahead_ms=look_ahead, sample_rate=SAMPLE_RATE)
        live.push(speech, SAMPLE_RATE)
        live.flush()
        made = [live.conditions() for _ in range(total)]
        heard = torch.cat([mouth_windows([one.mouth], tuple(windows.shape[1:])) for one in made])
        gates = None if gate is None else np.array([one.gate for one in made])
        other = ((motion(heard, gates) - mean) @ directions[:, 0]).numpy()
        found[f"{look_ahead} ms"] = {
            "correlation": float(np.corrcoef(opening, other)[0, 1]),
            "rms_over_deviation": float(np.sqrt(((opening - other) ** 2).mean()) / opening.std()),
            "gate_difference": None if gate is None or gates is None else float(np.abs(gate - gates).mean()),
        }
    return found


def main() -> None:
    """Run the benchmark."""
    args = arguments(__doc__)
    speech = Performance.generate(10.0, seed=5).waveform if args.speech is None else load_audio(args.speech)
    name = args.name or f"live_latency_{torch.device(args.device).type}"
    results: dict[str, Any] = {}
    for path in args.avatars:
        avatar = Avatar.load(path, args.device)
        row: dict[str, Any] = {"size": [avatar.width, avatar.height], "features": avatar.audio_features}
        row["gaussians"] = [avatar.head.face.gaussians.count, avatar.head.mouth.gaussians.count]
        for look_ahead in args.look_aheads:
            row[f"{look_ahead} ms"] = paced(avatar, speech, look_ahead, args.seconds)
        if args.frames:
            row["costs"] = costs(avatar, speech, (args.look_aheads or [80])[0], args.frames)
        row["sessions"] = {str(count): many(avatar, speech, count, 20) for count in args.sessions}
        if args.served:
            from _live_sessions import served

            row["served"] = [served(avatar, speech, count, args.seconds) for count in args.served]
        if args.lips:
            row["lips"] = lips(avatar, speech, args.look_aheads)
        results[path.stem] = row
        print(path.stem, row, flush=True)
    write(name, results | {"threads": torch.get_num_threads()}, args.out)


if __name__ == "__main__":
    main()
