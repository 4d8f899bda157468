"""Lip accuracy by audio feature: on the held-out end of one speaker's clip, and from other speakers' sound.

python benchmarks/audio_features.py SUBJECT [--others SUBJECT ...] [--clips FOLDER]
    [--kinds mel phones mel+phones ...] [--steps 800] [--seeds 2] [--heads AVATARS] [--judge EXPERT] [--speech FOLDER]
    [--preset fast] [--device cuda]

The published audio encoder is trained on the first three quarters of SUBJECT as training with it begins
(train/audio_pretraining.py; benchmarks/lips_probe.py compares encoders), and a linear head on its
codes predicts the tracked mouth opening (gap over head size) and lip shape. --clips: a folder of short .mpg clips of
one speaker, tracked here.

python benchmarks/audio_features.py SUBJECT --heads AVATARS --judge EXPERT --speech FOLDER [--preset tiny --device cpu]

trains whole avatars instead, into the folder AVATARS, and scores their held-out frames, and how their lips fit the
held-out sound and the first seconds of each sound file in FOLDER, by a sync expert that never saw the person.
"""

import argparse
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from _report import arguments, write

from emotalking.audio.features import extract_features
from emotalking.audio.windows import audio_windows
from emotalking.data import Subject
from emotalking.io.audio import load_audio
from emotalking.io.video import read_frames
from emotalking.models.audio import AudioEncoder, PublishedEncoder
from emotalking.preprocess.check.measures import mouth_opening
from emotalking.preprocess.landmarks import open_provider
from emotalking.train.audio_pretraining import lip_motion, pretrain_audio

TRAINED, GAP = 0.75, 8
HEARD_S = 6.0
"""Seconds of the held-out sound, and of each other sound, on which avatars are judged."""
RIDGE = 1e-3


@dataclass
class Clip:
    """A talking face: its mouth and its sound."""

    samples: np.ndarray
    opening: np.ndarray
    fps: Fraction

    def windows(self, kinds: str) -> torch.Tensor:
        """Encoder input, [N, 8, C, S]; several kinds of as many steps, joined by "+", are concatenated."""
        parts = [extract_features(self.samples, len(self.opening), self.fps, k) for k in kinds.split("+")]
        return audio_windows(torch.from_numpy(np.concatenate(parts, 2)))


def of_subject(subject: Subject) -> Clip:
    track = subject.landmarks
    return Clip(load_audio(subject.files.audio), mouth_opening(track.points, track.layout), subject.fps)


def of_folder(folder: Path) -> list[Clip]:
    provider, clips = open_provider(), []
    for path in sorted(folder.glob("*.mpg")):
        found = [provider.detect(np.ascontiguousarray(image)) for image in read_frames(path, 25)]
        points = np.stack([np.full((478, 3), np.nan, np.float32) if face is None else face for face in found])
        clips.append(Clip(load_audio(path), mouth_opening(points, provider.layout), Fraction(25)))
    provider.close()
    return clips


def lips(subject: Subject, windows: torch.Tensor, rows: np.ndarray) -> Any:
    """The part of TrainingData that audio_pretraining reads, without any picture."""
    track = subject.landmarks

    def pick(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array[rows], dtype=np.float32))

    return SimpleNamespace(
        shape=torch.from_numpy(np.float32(track.shape)),
        layout=track.layout,
        count=len(rows),
        conditions=SimpleNamespace(viewmats=pick(subject.viewmats), audio=windows[rows]),
        K=torch.from_numpy(np.asarray(subject.K, np.float32)),
        points=pick(track.points),
        device=torch.device("cpu"),
    )


@torch.no_grad()
def codes(encoder: AudioEncoder, windows: torch.Tensor) -> np.ndarray:
    parts = [encoder(windows[i : i + 256]) for i in range(0, len(windows), 256)]
    code = torch.cat(parts).numpy().astype(np.float64)
    return np.concatenate([code, np.ones((len(code), 1))], 1)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    seen = np.isfinite(a) & np.isfinite(b)
    return float(np.corrcoef(a[seen], b[seen])[0, 1])


def trial(subject: Subject, others: dict[str, list[Clip]], kinds: str, steps: int, seed: int) -> dict[str, float]:
    """One encoder trained; its scores."""
    clip = of_subject(subject)
    windows, count = clip.windows(kinds), len(clip.opening)
    train = np.arange(int(TRAINED * count))
    test = np.arange(len(train) + GAP, count)
    torch.manual_seed(seed)
    encoder = PublishedEncoder(windows.shape[2])
    pretrain_audio(encoder, lips(subject, windows, train), steps, torch.Generator().manual_seed(seed))
    code = codes(encoder, windows)
    shape = lip_motion(lips(subject, windows, np.arange(count))).numpy()
    truth = np.concatenate([shape, (clip.opening - clip.opening.mean())[:, None] / clip.opening.std()], 1)
    normal = code[train].T @ code[train] + RIDGE * len(train) * np.eye(code.shape[1])
    weights = np.linalg.solve(normal, code[train].T @ truth[train])
    error = ((code[test] @ weights - truth[test]) ** 2).mean(0) / truth[test].var(0)
    scores = {
        "held_out": correlation(code[test] @ weights[:, -1], clip.opening[test]),
        "held_out_explained": float(1 - error[:-1].mean()),
    }
    for name, clips in others.items():
        made = [codes(encoder, other.windows(kinds)) @ weights[:, -1] for other in clips]
        scores[name] = correlation(np.concatenate(made), np.concatenate([other.opening for other in clips]))
    return scores


def heads(args: argparse.Namespace) -> dict[str, Any]:
    """Whole avatars, one for each kind; their lips judged by an expert that never saw the person."""
    from sync_effect import held_out, measure

    from emotalking.evaluate.held_out import evaluate_held_out
    from emotalking.lipsync.expert import open_expert
    from emotalking.player.player import Player
    from emotalking.train.run import train

    subject = Subject.open(args.subject)
    judge = {"expert": open_expert(str(args.judge), subject, args.device)}
    points = subject.landmarks.ibug68[subject.train_indices].astype(np.float32)
    own = load_audio(subject.files.audio, float(subject.val_indices[0] / subject.fps), HEARD_S)
    sounds = [load_audio(path, 0.0, HEARD_S) for path in sorted(args.speech.glob("*.wav"))]
    made: dict[str, Any] = {"preset": args.preset, "judge": judge["expert"].name, "sounds": len(sounds)}
    for kind in args.kinds:
        settings = [f"model.audio.features={kind}", "emotion.iterations=0", "sync.expert=none"]
        out = args.heads / f"{kind}.safetensors"
        avatar = train(args.subject, out, args.preset, args.device, settings, resume=False).avatar
        scores = evaluate_held_out(avatar, subject, emotion=False).summary()
        shown = list(held_out(avatar, subject))[: round(HEARD_S * float(subject.fps))]
        player = Player(avatar)
        made[kind] = scores | {
            "held_out": measure([shown], [own], judge, points),
            "other_speech": measure([list(player.frames(sound)) for sound in sounds], sounds, judge, points),
        }
        print(kind, made[kind], flush=True)
    return made


def main() -> None:
    args = arguments(__doc__)
    if args.heads is not None:
        if args.judge is None or args.speech is None:
            raise SystemExit("--heads needs --judge and --speech")
        print(write("audio_features_heads", heads(args)).read_text())
        return
    subject = Subject.open(args.subject)
    others = {path.name: [of_subject(Subject.open(path))] for path in args.others}
    if args.clips is not None:
        others[args.clips.name] = of_folder(args.clips)
    results: dict[str, Any] = {"steps": args.steps, "seeds": args.seeds}
    for kinds in args.kinds:
        trials = [trial(subject, others, kinds, args.steps, seed) for seed in range(args.seeds)]
        results[kinds] = {name: [one[name] for one in trials] for name in trials[0]}
        row = "  ".join(f"{name} {np.mean(values):.3f}" for name, values in results[kinds].items())
        print(f"{kinds:<12} {row}", flush=True)
    results["command"] = f"{args.subject.name} --kinds {' '.join(args.kinds)}"
    write("audio_features", results)


if __name__ == "__main__":
    main()
