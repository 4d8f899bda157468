"""Clips of 2 s that heads speak, each marked with a payload of its own, attacked, searched; as many as time allows."""

import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _watermark_clips import ATTACKS, FPS, LENGTH, Frames, Workers, in_video, look, rates

from emotalking import Avatar, EmotionTrack, Player
from emotalking.io.audio import SAMPLE_RATE, load_audio
from emotalking.networks.lpips import Lpips
from emotalking.provenance.mark import Mark
from emotalking.provenance.payload import Payload
from emotalking.testing.actor import Actor, ActorState, head_viewmat
from emotalking.testing.actor.state import Viseme

ACTOR = "actor"
"""Place of the drawn actor, whose size follows: actor:256."""
EMOTIONS = ((0.0, 0.0), (0.7, 0.4), (-0.6, 0.5), (-0.5, -0.4), (0.5, -0.3), (0.2, 0.8))
Head = tuple[str, str]
"""Name, and an avatar's file or :data:`ACTOR`."""


def heads_table(heads: list[Head], sounds: list[Path], clips: int, limit: float, workers: Workers) -> dict[str, Any]:
    """Detection after each attack, of the clips that were ready within ``limit`` seconds."""
    jobs = [(head, number, tuple(sounds)) for number in range(clips) for head in heads]
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name, _ in heads}
    deadline = time.monotonic() + limit
    for (head, _, _), found in workers.until(deadline, one_clip, jobs):
        rows[head[0]].append(found)
    return {name: _summary(clips) for name, clips in rows.items() if clips}


def one_clip(job: tuple[Head, int, tuple[Path, ...]]) -> dict[str, Any]:
    """Quality of the mark in a clip, and what is found of it after each attack."""
    (_, place), number, sounds = job
    frames = spoken(place, number, sounds)
    payload = Payload(0x1000 + 7919 * number)
    mark = Mark(payload)
    marked = in_video(mark, frames, 0.37 * number)  # clips begin anywhere in the period
    added = [made.astype(np.float32) - plain for made, plain in zip(marked, frames, strict=True)]
    error = np.mean([np.square(one).mean() for one in added])
    moves, flicker = (
        np.mean([np.square(b.astype(np.float32) - a).mean() for a, b in zip(each, each[1:], strict=False)])
        for each in (frames, added)
    )
    result: dict[str, Any] = {
        "size": frames[0].shape[0],
        "psnr_db": float(10 * np.log10(255**2 / error)),
        "lpips": float(np.mean([_lpips(mark.array(frames[at], 0.0), frames[at]) for at in (10, 35)])),
        "change_of_mark_by_frames": float(flicker / max(float(moves), 1e-9)),
        "attacks": {},
    }
    for name, attack in ATTACKS.items():
        found = look(attack(marked), fps=30 if name.startswith("30 fps") else FPS)
        right = found is not None and found.payload == payload
        result["attacks"][name] = {
            "marked": found is not None and found.marked,
            "read": right and found.marked,
            "misread": found is not None and found.marked and found.payload is not None and not right,
            "bit_error": found.bit_error if right else None,
        }
    return result


def spoken(place: str, number: int, sounds: tuple[Path, ...]) -> Frames:
    """Frames of 2 s without a mark: of other speech, emotion and motion for each number."""
    if place.startswith(ACTOR):
        return _acted(int(place.partition(":")[2] or 256), number)
    sound, seconds = _sound(sounds[number % len(sounds)]), LENGTH / FPS
    begin = int((2.3 * number * SAMPLE_RATE) % max(len(sound) - seconds * SAMPLE_RATE, 1))
    avatar = _avatar(place)
    emotion = EmotionTrack.constant(*EMOTIONS[number % len(EMOTIONS)]) if avatar.emotional else None
    speech = sound[begin : begin + int(seconds * SAMPLE_RATE)]
    made = Player(avatar).frames(speech, emotion, poses="expressive", seed=number, seconds=seconds)
    return [np.array(frame) for frame in made][:LENGTH]


def _acted(side: int, number: int) -> Frames:
    """The drawn actor, who turns the head and speaks."""
    actor, rng = _actor(side), np.random.default_rng(number)
    speed, phase = rng.uniform(0.3, 0.8, 3), rng.uniform(0, 6, 3)
    feeling = EMOTIONS[number % len(EMOTIONS)]
    frames = []
    for at in np.arange(LENGTH) / FPS:
        turn = np.sin(2 * np.pi * speed * at + phase)
        view = head_viewmat(yaw=0.12 * float(turn[0]), pitch=0.05 * float(turn[1]), roll=0.03 * float(turn[2]))
        lips = Viseme(jaw=float(max(0.6 * np.sin(2 * np.pi * 3.1 * at + phase[0]), 0)), width=float(0.2 * turn[1]))
        state = ActorState(viewmat=view, viseme=lips, valence=feeling[0], arousal=feeling[1])
        frames.append(actor.render(state).image)
    return frames


@lru_cache(2)
def _avatar(place: str) -> Avatar:
    return Avatar.load(place)


@lru_cache(1)
def _actor(side: int) -> Actor:
    return Actor(size=side)


@lru_cache(16)
def _sound(path: Path) -> np.ndarray:
    return load_audio(path, longest_s=60)


@lru_cache(1)
def _network() -> Lpips:
    return Lpips.open("squeeze")


def _lpips(one: np.ndarray, other: np.ndarray) -> float:
    with torch.no_grad():
        return float(_network()(*(torch.from_numpy(image[None] / np.float32(255)) for image in (one, other))))


def _summary(clips: list[dict[str, Any]]) -> dict[str, Any]:
    attacks = {name: rates([clip["attacks"][name] for clip in clips]) for name in clips[0]["attacks"]}
    figures = ("psnr_db", "lpips", "change_of_mark_by_frames")
    quality = {key: [float(np.mean([c[key] for c in clips])), float(max(c[key] for c in clips))] for key in figures}
    quality["psnr_db"][1] = float(min(clip["psnr_db"] for clip in clips))
    return {"clips": len(clips), "size": clips[0]["size"], "quality_mean_and_worst": quality, "detection": attacks}


def markdown(table: dict[str, Any]) -> str:
    """The table with a column for each head: found / read (share of wrong bits where read)."""
    names = list(table)
    lines = ["| after | " + " | ".join(f"{one}, of {table[one]['clips']}" for one in names) + " |"]
    lines.append("|---" * (len(names) + 1) + "|")
    for attack in table[names[0]]["detection"]:
        cells = []
        for name in names:
            row = table[name]["detection"][attack]
            wrong = row["bit_errors_where_read"]
            share = "" if wrong is None else f" ({100 * wrong:.0f} %)"
            cells.append(f"{row['marked']['hits']} / {row['payload_read']['hits']}{share}")
        lines.append(f"| {attack} | " + " | ".join(cells) + " |")
    for key, digits in (("psnr_db", 1), ("lpips", 4)):
        values = [table[name]["quality_mean_and_worst"][key] for name in names]
        lines.append(
            f"| {key}, mean and worst | " + " | ".join(f"{a:.{digits}f}, {b:.{digits}f}" for a, b in values) + " |"
        )
    return "\n".join(lines) + "\n"
