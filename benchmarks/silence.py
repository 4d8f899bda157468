"""The silence test: how much a mouth moves and opens where nobody speaks, without and with the gate.

    python benchmarks/silence.py AVATAR --speech FILE [--subject FOLDER] [--pictures FOLDER] [--seconds 4.0]
        [--hours 1.0] [--name avatar]

Renders the avatar (fixed head) for speech, digital silence, room noise, breathing, music and a pause within the speech,
and measures the lips of the pictures with MediaPipe (points 13 and 14 over the distance of the eyes). Reported is the
variance of the opening within a second, over that of the speech of the same run, and the mean opening. An avatar that
has not learned its closed lips learns them here from ``--subject``, its own subject folder. The gate alone is also
timed and its memory measured on ``--hours`` of sound that is never held as a whole.

With ``--subject`` its held-out frames are rendered too, from their own sound, pose and action units: the opening of the
recorded and the rendered lips in pauses and in speech, and how like the recording they are (PSNR of the whole frame and
of the lips' rectangle), without and with the gate. ``--pictures`` keeps the frames of the longest pause as strips.
"""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from _report import arguments, peak_mb, write
from scipy.signal import butter, sosfilt

from emotalking.audio.vad import voice_activity
from emotalking.data import Subject
from emotalking.evaluate.metrics.image import psnr
from emotalking.io.audio import SAMPLE_RATE, iter_audio, load_audio
from emotalking.models.avatar import Avatar
from emotalking.ops.box import Box
from emotalking.ops.composite import to_uint8
from emotalking.player.player import Player
from emotalking.preprocess.landmarks import MediaPipeMesh
from emotalking.progress import track
from emotalking.train.data import TrainingData
from emotalking.train.presets import preset
from emotalking.train.stages.finetune import learn_closed_mouth_codes

EYES, LIPS = (33, 263), (13, 14)


def sounds(speech: np.ndarray, seconds: float) -> dict[str, np.ndarray]:
    """The sounds of the test, float32 at 16 kHz."""
    count = round(seconds * SAMPLE_RATE)
    rng, at = np.random.default_rng(0), np.arange(count) / SAMPLE_RATE
    room = np.cumsum(rng.normal(size=count)) - np.linspace(0, 1, count)
    room = sosfilt(butter(1, 60, "highpass", fs=SAMPLE_RATE, output="sos"), room)
    breath = sosfilt(butter(2, [400, 3000], "bandpass", fs=SAMPLE_RATE, output="sos"), rng.normal(size=count))
    breath *= np.clip(np.sin(2 * np.pi * 0.45 * at), 0, None) ** 1.2
    beats = np.floor(at / 0.6)
    root = 110 * 2 ** (np.array([0, 5, 7, 2, 4])[beats.astype(int) % 5] / 12)
    inside = at - 0.6 * beats
    chord = sum(
        np.sin(2 * np.pi * root * ratio * k * inside) / k * np.exp(-inside * k)
        for ratio in (1.0, 1.26, 1.5)
        for k in range(1, 7)
    )
    made = {"room noise": (room, -50.0), "breathing": (breath, -35.0), "music": (np.asarray(chord), -20.0)}
    levelled = {name: wave / np.sqrt((wave**2).mean()) * 10 ** (db / 20) for name, (wave, db) in made.items()}
    half = speech[: count // 2]
    pause = np.concatenate([half, np.zeros(count // 2), speech[count // 2 : count]])
    every = {"speech": speech[:count], "digital silence": np.zeros(count)} | levelled | {"pause": pause}
    return {name: wave.astype(np.float32) for name, wave in every.items()}


def openings(images: Iterable[np.ndarray]) -> np.ndarray:
    """Distance of the inner lips over that of the eyes, per cent, frame by frame; nan without a face."""
    mesh, found = MediaPipeMesh(), []
    for image in images:
        points = mesh.detect(image)
        if points is None:
            found.append(np.nan)
        else:
            gap, eyes = (np.linalg.norm(points[a, :2] - points[b, :2]) for a, b in (LIPS, EYES))
            found.append(100 * gap / eyes)
    mesh.close()
    return np.array(found)


def held_out(avatar: Avatar, subject: Subject, pictures: Path | None) -> dict[str, Any]:
    """The held-out frames without and with the gate, beside the recording."""
    data = TrainingData.load(subject, subject.val_indices, avatar.audio_features, avatar.device)
    first, last, fps = int(subject.val_indices[0]), int(subject.val_indices[-1]) + 1, float(subject.fps)
    gate = voice_activity(iter_audio(subject.files.audio)).frames(first, last, fps)[subject.val_indices - first]
    truth = [subject.target(int(index)) for index in subject.val_indices]
    rects = [subject.lips_rect(int(index)) for index in subject.val_indices]

    def made(gated: bool) -> Iterator[np.ndarray]:
        for frame in track(range(data.count), f"held out, {'with' if gated else 'without'} the gate"):
            at, speech = data.conditions.at(frame), torch.tensor([float(gate[frame])]) if gated else None
            with torch.no_grad():
                rgb = avatar.render(at.viewmats, at.audio, at.aus, None, data.behind(frame), speech).rgb[0]
            yield to_uint8(rgb)

    shown = {"recorded": truth, "no gate": list(made(False)), "gate": list(made(True))}
    quiet, loud = gate <= 0, gate >= 1
    rows: dict[str, Any] = {"frames": len(gate), "in_pauses": int(quiet.sum()), "in_speech": int(loud.sum())}
    for name, images in shown.items():
        lips = openings(images)
        row = {"opening_in_pauses": float(np.nanmean(lips[quiet])), "opening_in_speech": float(np.nanmean(lips[loud]))}
        if name != "recorded":
            for part, used in (("in_pauses", quiet), ("in_all", np.ones_like(quiet))):
                row[f"psnr_{part}"] = likeness(images, truth, used, None)
                row[f"psnr_lips_{part}"] = likeness(images, truth, used, rects)
        row = {key: value for key, value in row.items() if np.isfinite(value)}  # a clip may hold no pause
        rows[name] = row
        print(f"held out, {name:9}", "  ".join(f"{key} {value:.2f}" for key, value in row.items()))
    if pictures is not None:
        strip(shown, quiet, rects, pictures / "pause.png")
    return rows


def likeness(images: list[np.ndarray], truth: list[np.ndarray], used: np.ndarray, rects: list[Box] | None) -> float:
    """Mean PSNR of some frames, dB; ``rects``: of these parts."""
    found = []
    for index in np.flatnonzero(used):
        part = np.s_[:, :] if rects is None else rects[index].index
        ours, theirs = (torch.from_numpy(each[index][part]) / 255.0 for each in (images, truth))
        found.append(float(psnr(ours, theirs)))
    return float(np.mean(found)) if found else float("nan")


def strip(shown: dict[str, list[np.ndarray]], quiet: np.ndarray, rects: list[Box], path: Path) -> None:
    """Mouths of the longest pause and what is around it, a row for each: recorded, without and with the gate."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], quiet.astype(int), [0]])))
    if not len(edges):
        print("the held-out frames have no pause to show")
        return
    begin, end = max(zip(edges[::2], edges[1::2], strict=True), key=lambda run: run[1] - run[0])
    picks = np.linspace(max(0, begin - 4), min(len(quiet) - 1, end + 4), 14).astype(int)
    rows = []
    for images in shown.values():
        cuts = []
        for index in picks:
            top, left, bottom, right = (int(edge) for edge in rects[index])
            row, column, half = (top + bottom) // 2, (left + right) // 2, max(bottom - top, right - left)
            part = images[index][max(0, row - half) : row + half, max(0, column - half) : column + half]
            cuts.append(cv2.resize(part, (120, 120), interpolation=cv2.INTER_AREA))
        rows.append(np.concatenate(cuts, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.concatenate(rows)[..., ::-1])
    print(f"{path}: frames {picks.tolist()}, the pause is {begin} to {end - 1}")


def energy(opening: np.ndarray, fps: float) -> float:
    """Mean variance within windows of a second."""
    windows = [opening[i : i + round(fps)] for i in range(0, len(opening) - round(fps) + 1, round(fps / 2))]
    return float(np.nanmean([np.nanvar(window) for window in windows]))


def long_sound(hours: float, speech: np.ndarray) -> Iterator[np.ndarray]:
    """Hours of talk and pauses, second by second."""
    padded = np.concatenate([speech, np.zeros(5 * SAMPLE_RATE, np.float32)])
    pieces = len(padded) // SAMPLE_RATE
    for second in range(round(hours * 3600)):
        start = (second % pieces) * SAMPLE_RATE
        yield padded[start : start + SAMPLE_RATE]


def main() -> None:
    """Measure, print, write ``results/silence_NAME.json``."""
    args = arguments(__doc__)
    avatar, speech = Avatar.load(args.avatar), load_audio(args.speech)
    if not avatar.closes_lips:
        if args.subject is None:
            raise SystemExit("this avatar has not learned its closed lips: give --subject")
        subject = Subject.open(args.subject)
        data = TrainingData.load(subject, subject.train_indices, avatar.audio_features, "cpu")
        learn_closed_mouth_codes(avatar.head, data, preset("fast").closed_mouth_code)
    fps, rows = float(avatar.fps), {}
    middle = slice(round(args.seconds / 2 * fps + 0.3 * fps), round(args.seconds * fps - 0.3 * fps))
    for name, sound in sounds(speech, args.seconds).items():
        for gate in (False, True):
            lips = openings(Player(avatar).frames(sound, poses="fixed", vad=gate))
            lips = lips[middle] if name == "pause" else lips
            row = {"energy": energy(lips, min(fps, len(lips))), "mean_opening": float(np.nanmean(lips))}
            row["missing"] = int(np.isnan(lips).sum())
            rows.setdefault(name, {})["gate" if gate else "no gate"] = row
    for name, row in rows.items():
        for gate, figures in row.items():
            figures["of_speech"] = figures["energy"] / rows["speech"][gate]["energy"]
            print(f"{name:16} {gate:8} opening {figures['mean_opening']:6.2f} %  energy {figures['energy']:8.4f}"
                  f"  of speech {figures['of_speech']:.4f}")  # fmt: skip
    begin = time.perf_counter()
    steps = len(voice_activity(long_sound(args.hours, speech)).speaking)
    seconds = time.perf_counter() - begin
    timing = {"hours": args.hours, "steps": steps, "times_real_time": args.hours * 3600 / seconds, "peak_mb": peak_mb()}
    print(f"gate on {args.hours:g} h: {timing['times_real_time']:.0f} times real time, peak {timing['peak_mb']} MB")
    results: dict[str, Any] = {
        "mouth": rows,
        "gate": timing,
        "seconds": args.seconds,
        "command": "python benchmarks/silence.py AVATAR",
    }
    if args.subject is not None:
        results["held_out"] = held_out(avatar, Subject.open(args.subject), args.pictures)
    print(write(f"silence_{args.name}", results))


if __name__ == "__main__":
    main()
