"""Emotion that is seen at the twelve test points while speaking: of targets, and of trained heads.

python benchmarks/emotion_judges.py SUBJECT [SUBJECT ...] --acted CLIPS --neutral CLIP ... [--heads FILE ...]
                                    [--audio SOUND ...] [--sheets FOLDER] [--places 2] [--each 8]

For each subject the generator's targets, and for each head (in the order of the subjects, at its subject's held-out
poses) rendered speech, at neutral and at the twelve points (docs/paper.md 9.3). Judges, all relative to the person's
own neutral frames:
- "blendshapes" and "landmarks" (benchmarks/_judges.py), fitted to acted clips alone;
- "units": rules on action units (emotion.estimator), fitted to nothing.

Of each: correlation with the command over the twelve points' means (and its 95 % interval over resampled frames), signs
that agree, frames read as the point's label, and correlation under shuffled labels. "ceiling": acted clips of people
who were left out of the fit. "amplitudes": how far their emotions move places of the face. "lips": spread of the lips'
opening against that of the neutral frames.
"""

import argparse
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from _expressive import BlendshapeReader, Expressive, read, read_clip
from _judges import CLASSES, Bench, Look, fit, look_at
from _report import write
from estimator_error import ACTED

from emotalking.data import Subject
from emotalking.emotion.circumplex import TEST_POINTS
from emotalking.emotion.mesh_warp.warp import MeshWarpConfig
from emotalking.emotion.tracks import EmotionTrack
from emotalking.evaluate.evaluation_models import EvaluationModels
from emotalking.evaluate.held_out import OnHeldOut
from emotalking.evaluate.measure import measure
from emotalking.faces.edit import FaceEditor
from emotalking.faces.generators import open_generator
from emotalking.faces.source import SubjectFaces
from emotalking.io.audio import SAMPLE_RATE, load_audio
from emotalking.io.display import to_rgb
from emotalking.io.images import write_image
from emotalking.io.video import decode_frames
from emotalking.models.avatar import Avatar
from emotalking.player.player import Player
from emotalking.report.contact_sheet import contact_sheet

POINTS = np.array([(point.valence, point.arousal) for point in TEST_POINTS])
LABELS = [CLASSES.index(point.label) for point in TEST_POINTS]
DRAWS = 500
"""Resamplings of frames, and shufflings of labels."""


def read_some(path: Path) -> Expressive:
    """A clip; of people who just talk, every third frame of the first 450 is enough."""
    if any(word in path.stem for word in (*ACTED, "sweep")):
        return read_clip(path)
    return read(path.stem, (to_rgb(frame) for _, frame in islice(decode_frames(path), 0, 450, 3)))


def targets(subject: Subject, places: int, each: int) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Frame numbers and images: unedited, then every point."""
    starts = np.linspace(0, subject.num_frames - each, places + 2)[1:-1].astype(int)
    frames = (starts[:, None] + np.arange(each)).ravel()
    source = SubjectFaces(subject)
    editor = FaceEditor(source, open_generator(source, MeshWarpConfig()))
    yield frames, [subject.original(int(index)) for index in frames]
    for place in POINTS:
        yield frames, [editor.images(int(index), [tuple(place)])[0] for index in frames]


def rendered(avatar: Avatar, subject: Subject, sounds: list[Path], count: int) -> Iterator[list[np.ndarray]]:
    """Speech with neutral, then with every point; the same frames of the same sounds each."""
    player = Player(OnHeldOut(avatar, subject))
    for place in [(0.0, 0.0), *POINTS]:
        images: list[np.ndarray] = []
        for sound in sounds:
            samples = load_audio(sound, 0.5, count / float(avatar.fps))[: int(count / avatar.fps * SAMPLE_RATE)]
            images += list(player.frames(samples, EmotionTrack.constant(*place)))
        yield images


def summary(by_point: list[np.ndarray], hits: np.ndarray | None) -> dict[str, Any]:
    """Agreement of readings [N, 2] of each point with the commands."""
    rng = np.random.default_rng(0)
    means = np.array([np.nanmean(values, 0) for values in by_point])
    out: dict[str, Any] = {}

    def r(seen: np.ndarray, axis: int, said: np.ndarray = POINTS) -> float:
        return float(np.corrcoef(seen[:, axis], said[:, axis])[0, 1])

    drawn = [
        np.array([np.nanmean(values[rng.integers(len(values), size=len(values))], 0) for values in by_point])
        for _ in range(DRAWS)
    ]
    for axis, letter in enumerate("va"):
        out[f"{letter}_r"] = r(means, axis)
        out[f"{letter}_r_95"] = np.percentile([r(seen, axis) for seen in drawn], [2.5, 97.5]).tolist()
        out[f"{letter}_signs"] = int((np.sign(means[:, axis]) == np.sign(POINTS[:, axis])).sum())
        shuffled = [r(means, axis, rng.permutation(POINTS)) for _ in range(DRAWS)]
        out[f"{letter}_r_shuffled_95"] = float(np.percentile(shuffled, 95))
        out[f"{letter}_slope"] = float(np.polyfit(POINTS[:, axis], means[:, axis], 1)[0])
    if hits is not None:
        out["top1"] = float(hits.mean())
    out["points"] = means.round(3).tolist()
    return out


def judged(bench: Bench, series: list[list[np.ndarray]], units: list[np.ndarray]) -> dict[str, Any]:
    """All judges on neutral images and those of every point."""
    reader = BlendshapeReader()
    both = look_at([image for images in series for image in images], reader)
    looks, start = [], 0
    for images in series:
        looks.append(both[start : start + len(images)])
        start += len(images)
    rows = {}
    for name in bench.judges:
        read = [bench.read(look.windows(), looks[0])[name] for look in looks[1:]]
        hits = np.array([(scores.argmax(1) == label).mean() for (_, scores), label in zip(read, LABELS, strict=True)])
        rows[name] = summary([va for va, _ in read], hits)
    rows["units"] = summary([values - np.nanmean(units[0], 0) for values in units[1:]], None)
    rows["lips"] = [round(value, 3) for value in lips(looks)]
    return rows


def lips(looks: list[Look]) -> list[float]:
    """Spread of each point's lip opening over that of the neutral frames."""
    gaps = [look.points[:, 14, 1] - look.points[:, 13, 1] for look in looks]
    return [float(np.nanstd(gap) / np.nanstd(gaps[0])) for gap in gaps[1:]]


def units_of(
    subject: Subject, images: list[np.ndarray], frames: np.ndarray | None, models: EvaluationModels
) -> np.ndarray:
    """[N, 2] by the rules on action units."""
    found = measure(images, subject=subject, indices=frames, va=np.zeros((len(images), 2)), models=models).observation
    assert found.va is not None
    return found.va


def sheet(path: Path, series: list[list[np.ndarray]], subject: Subject) -> None:
    """One frame of each, close."""
    points = subject.landmarks.points[subject.landmarks.detected].reshape(-1, 2)
    (left, top), (right, bottom) = points.min(0).astype(int).clip(0), points.max(0).astype(int)
    middle = len(series[0]) // 2
    faces = [images[middle][max(top - (bottom - top) // 5, 0) : bottom, left:right] for images in series]
    names = ["neutral"] + [f"{p.label} {p.valence:+.2f} {p.arousal:+.2f}" for p in TEST_POINTS]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, contact_sheet(faces, names, columns=5, cell=300))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subjects", nargs="+", type=Path)
    parser.add_argument("--acted", type=Path, required=True, help="a folder of clips whose names say the emotion")
    parser.add_argument("--neutral", type=Path, nargs="+", required=True, help="clips of other people who just talk")
    parser.add_argument("--heads", type=Path, nargs="*", default=[])
    parser.add_argument("--audio", type=Path, nargs="*", default=[], help="sounds that the heads say")
    parser.add_argument("--sheets", type=Path)
    parser.add_argument("--places", type=int, default=2)
    parser.add_argument("--each", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--name", default="emotion_judges")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    bench = fit(args.acted.glob("*.mp4"), args.neutral, read_some)
    results: dict[str, Any] = {"ceiling": bench.ceiling, "amplitudes": bench.amplitudes, "people": {}}
    models = EvaluationModels.open(lpips="none", identity=False)
    for number, folder in enumerate(args.subjects, 1):
        subject = Subject.open(folder)
        runs: dict[str, tuple[list[list[np.ndarray]], list[np.ndarray]]] = {}
        made = list(targets(subject, args.places, args.each))
        runs["targets"] = ([i for _, i in made], [units_of(subject, i, frames, models) for frames, i in made])
        if number <= len(args.heads):
            avatar = Avatar.load(args.heads[number - 1], args.device)
            shown = list(rendered(avatar, subject, args.audio, args.places * args.each))
            runs["head"] = (shown, [units_of(subject, images, None, models) for images in shown])
        rows = {}
        for kind, (series, units) in runs.items():
            rows[kind] = judged(bench, series, units)
            if args.sheets is not None:
                sheet(args.sheets / f"subject{number}_{kind}.png", series, subject)
            for judge in (*bench.judges, "units"):
                row = {k: round(v, 2) for k, v in rows[kind][judge].items() if isinstance(v, float | int)}
                print(f"subject {number} {kind:8s} {judge:12s} {row}", flush=True)
            print("lips", rows[kind]["lips"], flush=True)
        results["people"][f"subject {number}"] = rows
    print(write(args.name, results))


if __name__ == "__main__":
    main()
