"""How well a sound feature predicts this person's mouth opening or width: ridge regression and the audio encoders.

python benchmarks/lips_probe.py SUBJECT [--part opening|width] [--name lips_probe] [--features mel phones hama ...]
    [--encoders conv published ...] [--steps 300] [--seeds 1] [--folds N ...] [--augment both|yes|no]
    [--others SUBJECT ...]

Cross-validated over five blocks in time, eight frames left out at the joints; the predictions of all blocks are pooled.
Encoders are pretrained as training begins them (train/audio_pretraining.py), with and without augmented sound, and
ridge regression reads the opening from their codes. --others: people on whose clips the last block's models are tried.

Of the first feature's ridge regression, what is within reach: r in each eleventh of the clip, above 0.5 Hz alone, with
the recording's own part below it (posture, of which sound tells little), and without pauses (lips closed for 0.3 s).
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from _report import arguments, write
from audio_features import lips
from scipy.ndimage import binary_opening, gaussian_filter1d

from emotalking.audio.features import extract_features
from emotalking.audio.windows import audio_windows
from emotalking.data import Subject
from emotalking.data.audio_features import audio_feature
from emotalking.evaluate.metrics.lips import lip_series
from emotalking.io.audio import load_audio
from emotalking.models.audio import AudioEncoder, audio_encoder
from emotalking.models.config import AudioConfig
from emotalking.preprocess.check.measures import CLOSED, mouth_opening
from emotalking.train.audio_augmentation import augmented_examples
from emotalking.train.audio_pretraining import pretrain_audio

BLOCKS, JOINT = 5, 8
REACH = 4
"""Steps before and after a frame's two that ridge regression reads."""
SLOW_HZ, PAUSE_S = 0.5, 0.3


class Person:
    """A subject's opening (or width), and windows of its sound."""

    def __init__(self, folder: Path, part: str) -> None:
        self.subject = Subject.open(folder)
        track = self.subject.landmarks
        opening = mouth_opening(track.points, track.layout)
        self.closed = opening < CLOSED
        if part == "width":
            opening = lip_series(track.ibug68.astype(np.float64))[1]
        self.opening = np.where(np.isfinite(opening), opening, np.nanmean(opening))
        self.samples = load_audio(self.subject.files.audio)

    def windows(self, name: str) -> torch.Tensor:
        return audio_windows(
            torch.from_numpy(extract_features(self.samples, len(self.opening), self.subject.fps, name))
        ).contiguous()


def stacked(windows: torch.Tensor) -> np.ndarray:
    """Steps around each frame's own two, flat."""
    line = windows[:, 4] if windows.shape[-1] > 2 else windows.transpose(1, 2).flatten(2)
    return line[..., 8 - REACH : 10 + REACH].flatten(1).numpy().astype(np.float64)


class Ridge:
    """Closed form; columns over the root of their variance and the mean one; lambda = strength x number of columns."""

    def __init__(self, x: np.ndarray, y: np.ndarray, strength: float = 1.0) -> None:
        self.mean, self.target = x.mean(0), y.mean()
        self.scale = np.sqrt(x.var(0) + x.var(0).mean())
        x = (x - self.mean) / self.scale
        normal = x.T @ x + strength * x.shape[1] * np.eye(x.shape[1])
        self.weights = np.linalg.solve(normal, x.T @ (y - self.target))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return (x - self.mean) / self.scale @ self.weights + self.target


def r(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


@torch.no_grad()
def codes(encoder: AudioEncoder, windows: torch.Tensor) -> np.ndarray:
    return torch.cat([encoder(part) for part in windows.split(256)]).numpy().astype(np.float64)


def folds(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Trained and tested frames of each fold."""
    edges = np.linspace(0, count, BLOCKS + 1).astype(int)
    every = np.arange(count)
    return [
        (every[(every < a - JOINT) | (every >= b + JOINT)], every[a:b]) for a, b in zip(edges, edges[1:], strict=False)
    ]


def scores(made: np.ndarray, truth: np.ndarray, count: int) -> dict[str, float]:
    """Of the last frames of ``count``."""
    last = slice(-round(count / 11), None)
    return {
        "cv": r(made, truth),
        "last_eleventh": r(made[last], truth[last]),
        "spread": float(made.std() / truth.std()),
    }


def ridge(person: Person, windows: torch.Tensor) -> np.ndarray:
    """The opening of every frame by ridge regression on the other blocks."""
    x, made = stacked(windows), np.zeros_like(person.opening)
    for train, test in folds(len(made)):
        made[test] = Ridge(x[train], person.opening[train])(x[test])
    return made


def within_reach(person: Person, made: np.ndarray) -> dict[str, Any]:
    """r of ``made`` in each eleventh; above and with the recorded part below ``SLOW_HZ``; without pauses."""
    truth, fps = person.opening, float(person.subject.fps)
    # A Gaussian of this deviation passes half of the amplitude at SLOW_HZ.
    sigma = fps * np.sqrt(2 * np.log(2)) / (2 * np.pi * SLOW_HZ)
    slow, own = (gaussian_filter1d(values, sigma, mode="nearest") for values in (truth, made))
    pause = binary_opening(person.closed, np.ones(round(PAUSE_S * fps)))
    parts = np.array_split(np.arange(len(truth)), 11)

    def each(a: np.ndarray, b: np.ndarray) -> list[float]:
        return [round(r(a[part], b[part]), 3) for part in [*parts, np.arange(len(truth))]]

    speaking = [part[~pause[part]] for part in parts]
    return {
        "elevenths, then all": each(made, truth),
        "spread": [round(float(made[part].std() / truth[part].std()), 3) for part in parts],
        "above 0.5 Hz": each(made - own, truth - slow),
        "with the recorded part below it": each(made - own + slow, truth),
        "without pauses": [round(r(made[part], truth[part]), 3) for part in speaking],
        "spread without pauses": [round(float(made[part].std() / truth[part].std()), 3) for part in speaking],
        "frames of pauses": [int(pause[part].sum()) for part in parts],
    }


def encoder_scores(
    person: Person,
    windows: torch.Tensor,
    config: AudioConfig,
    steps: int,
    augment: bool,
    seed: int,
    others: dict[str, tuple[Person, torch.Tensor]],
    which: list[int],
) -> dict[str, float]:
    made = np.full(len(person.opening), np.nan)
    beyond: dict[str, float] = {}
    for number, (train, test) in enumerate(folds(len(made))):
        if number not in which:
            continue
        torch.manual_seed(seed)
        encoder = audio_encoder(config)
        extra = augmented_examples(person.subject, train, config.features, "cpu") if augment else []
        generator = torch.Generator().manual_seed(seed)
        explained = pretrain_audio(encoder, lips(person.subject, windows, train), steps, generator, extra)
        read = Ridge(codes(encoder, windows[train]), person.opening[train])
        made[test] = read(codes(encoder, windows[test]))
        print(
            f"   fold {number} trained {explained:.2f} held out {r(made[test], person.opening[test]):.3f}",
            flush=True,
        )
        beyond = {name: r(read(codes(encoder, w)), other.opening) for name, (other, w) in others.items()}
    seen = np.isfinite(made)
    return scores(made[seen], person.opening[seen], len(made)) | beyond


def main() -> None:
    args = arguments(__doc__)
    args.folds = args.folds or list(range(BLOCKS))
    person = Person(args.subject, args.part)
    others = {path.name: Person(path, args.part) for path in args.others}
    results: dict[str, Any] = {"part": args.part, "steps": args.steps, "folds": args.folds}
    results["frames"] = len(person.opening)
    ways = {"both": (False, True), "yes": (True,), "no": (False,)}[args.augment]
    for name in args.features:
        windows, feature = person.windows(name), audio_feature(name)
        heard = {key: (other, other.windows(name)) for key, other in others.items()}
        made, whole = ridge(person, windows), Ridge(stacked(windows), person.opening)
        beyond = {key: r(whole(stacked(w)), other.opening) for key, (other, w) in heard.items()}
        rows = {"ridge": scores(made, person.opening, len(made)) | beyond}
        if "within_reach" not in results:
            results["within_reach"] = within_reach(person, made)
            print("\n".join(f"{key:<32} {value}" for key, value in results["within_reach"].items()), flush=True)
        for kind in args.encoders:
            config = AudioConfig(feature.name, feature.channels, steps=feature.steps, encoder=kind)
            for augment in ways:
                for seed in range(args.seeds):
                    row = encoder_scores(person, windows, config, args.steps, augment, seed, heard, args.folds)
                    rows[f"{kind}{' augmented' if augment else ''} seed {seed}"] = row
        results[name] = rows
        for key, row in rows.items():
            print(f"{name:<8} {key:<26} " + "  ".join(f"{n} {v:.3f}" for n, v in row.items()), flush=True)
    write(args.name, results)


if __name__ == "__main__":
    main()
