"""Effects of the embedded generator of emotional faces on people: lips, identity, sharpness, flicker, emotion.

python benchmarks/faces.py SUBJECT ... [--acted CLIPS] [--neutral CLIP ...] [--places 2] [--each 5]
    [--variants NAME ...] [--threads 1] [--name faces]

The same frames (`--each` consecutive ones from `--places` places of the clip) are edited to each of the twelve test
points (docs/paper.md 9.3) and looked at again by detectors that know nothing of the edit; unedited they are the floor.

Emotion is read by two estimators:
- "units": the embedded judge (emotion.estimator). It and the generator share no number, but both rest on FACS: the
  judge on EMFACS prototypes, the generator's table on FACS moves. Its agreement alone would prove little.
- "fitted": ridge regression from MediaPipe's blendshapes to the places of the emotions that acted clips are named after
  (`--acted`), with frames of `--neutral` clips at the origin. The generator has seen none of these clips: what was
  measured for it was measured on the unlabelled "sweep" clips (expression_bases.py). Its own error, each clip read by a
  fit without it, is the ceiling. "fitted_change" is the reading less that of the same frame unedited, which takes the
  person's looks out.

Nothing is fitted to either estimator.
"""

import argparse
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from _expressive import BlendshapeReader, Expressive, read_clip
from _report import arguments, write
from estimator_error import ACTED, CONTRADICTED

from emotalking.data import Subject
from emotalking.data.frame import lip_gap
from emotalking.emotion.circumplex import PRESETS, TEST_POINTS
from emotalking.emotion.mesh_warp.warp import MeshWarpConfig
from emotalking.evaluate.evaluation_models import CIRCUMPLEX_CLASSES, EvaluationModels
from emotalking.evaluate.measure import Measurement
from emotalking.evaluate.measure import measure as score
from emotalking.faces.edit import FaceEditor
from emotalking.faces.generators import open_generator
from emotalking.faces.source import SubjectFaces
from emotalking.preprocess.blendshapes import BLENDSHAPES
from emotalking.progress import track

POINTS = np.array([(point.valence, point.arousal) for point in TEST_POINTS])
VARIANTS: dict[str, MeshWarpConfig | None] = {
    "unedited": None,
    "edited": MeshWarpConfig(),
    "not relit": MeshWarpConfig(shading=False),
    "lips fixed": MeshWarpConfig(corners=False),
    "gain .6": MeshWarpConfig(gain=0.6),
}
STRIP = 50
"""Consecutive frames whose flicker is looked at."""
RIDGE = 0.01
FIGURES = ("v_rmse", "a_rmse", "v_sa", "a_sa", "e_top1", "e_top3", "identity", "lmd")


@dataclass
class FittedJudge:
    """Valence and arousal as a linear function of blendshapes."""

    mean: np.ndarray
    weights: np.ndarray
    offset: np.ndarray

    @classmethod
    def fit(cls, clips: list[tuple[np.ndarray, tuple[float, float]]]) -> "FittedJudge":
        """From (blendshapes [N, 52], valence and arousal) of clips, every clip with the same weight."""
        x = np.concatenate([scores for scores, _ in clips])
        y = np.concatenate([np.tile(place, (len(scores), 1)) for scores, place in clips])
        weight = np.concatenate([np.full(len(scores), 1 / len(scores) / len(clips)) for scores, _ in clips])[:, None]
        mean, offset = (x * weight).sum(0), (y * weight).sum(0)
        gram = ((x - mean) * weight).T @ (x - mean) + RIDGE * np.eye(x.shape[1])
        return cls(mean, np.linalg.solve(gram, ((x - mean) * weight).T @ (y - offset)), offset)

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """[N, 52] -> [N, 2]."""
        return (scores - self.mean) @ self.weights + self.offset


def looked_at(clip: Expressive) -> np.ndarray:
    """Its blendshapes without those of the gaze."""
    return clip.blend[:, [not name.startswith(("eyeLook", "_")) for name in BLENDSHAPES]]


def agreement(read: np.ndarray, commanded: np.ndarray) -> dict[str, float]:
    """Correlation and sign agreement per axis."""
    out = {}
    for axis, letter in enumerate("va"):
        seen = np.isfinite(read[:, axis])
        a, b = read[seen, axis], commanded[seen, axis]
        out[f"{letter}_r"] = float(np.corrcoef(a, b)[0, 1]) if a.std() > 1e-9 else 0.0
        out[f"{letter}_sa"] = float((np.sign(a) == np.sign(b)).mean())
    return out


def fit_judge(args: argparse.Namespace) -> tuple[FittedJudge, dict[str, Any]]:
    """The judge, and the ceiling: each acted clip read by a fit that has not seen it."""
    places = {label: PRESETS[name] for label, name in CIRCUMPLEX_CLASSES.items()}
    clips: list[tuple[str, np.ndarray, tuple[float, float]]] = []
    for path in track(sorted(args.acted.glob("*.mp4")), "acted clips"):
        label = next((label for word, label in ACTED.items() if word in path.stem), None)
        if label in places and not any(word in path.stem for word in CONTRADICTED):
            clips.append((label, looked_at(read_clip(path)), places[label]))
    rest = [(looked_at(read_clip(path)), (0.0, 0.0)) for path in args.neutral]
    rows, frames, truth = {}, [], []
    for k, (label, scores, place) in enumerate(clips):
        others = [(s, p) for j, (_, s, p) in enumerate(clips) if j != k]
        read = FittedJudge.fit(others + rest)(scores)
        rows[f"{label} {k}"] = {"true": place, "read": read.mean(0).round(3).tolist()}
        frames.append(read)
        truth.append(np.tile(place, (len(read), 1)))
    means = np.array([read.mean(0) for read in frames])
    ceiling = {
        "clips": rows,
        "means": agreement(means, np.array([t[0] for t in truth])),
        "frames": agreement(np.concatenate(frames), np.concatenate(truth)),
    }
    print("ceiling (acted clips)", ceiling["means"], flush=True)
    return FittedJudge.fit([(s, p) for _, s, p in clips] + rest), ceiling


def chosen_frames(subject: Subject, places: int, each: int) -> np.ndarray:
    """[12 * places * each] the same pieces of consecutive frames for every point."""
    starts = np.linspace(0, subject.num_frames - each, places + 2)[1:-1].astype(int)
    return np.tile((starts[:, None] + np.arange(each)).ravel(), len(POINTS))


def edited(subject: Subject, config: MeshWarpConfig | None, frames: np.ndarray, va: np.ndarray) -> list[np.ndarray]:
    """The frames with these emotions."""
    if config is None:
        return [subject.original(int(index)) for index in frames]
    source = SubjectFaces(subject)
    editor = FaceEditor(source, open_generator(source, config))
    return [editor.images(int(index), [(float(v), float(a))])[0] for index, (v, a) in zip(frames, va, strict=True)]


def sharpness(image: np.ndarray, points: np.ndarray) -> float:
    """Mean absolute Laplacian inside the landmarks' box, grey levels."""
    (left, top), (right, bottom) = points.min(0).astype(int).clip(0), points.max(0).astype(int)
    grey = cv2.cvtColor(image[top:bottom, left:right], cv2.COLOR_RGB2GRAY)
    return float(np.abs(cv2.Laplacian(grey, cv2.CV_32F)).mean())


def lips(seen: Measurement, source: Measurement) -> dict[str, float]:
    """Change of the lips' opening and width against the same frames unedited, pixels; and how well they go together."""
    assert seen.observation is not None and source.observation is not None
    new, old = seen.observation.points, source.observation.points
    gaps, widths = (lip_gap(p) for p in (new, old)), (np.linalg.norm(p[:, 48] - p[:, 54], axis=1) for p in (new, old))
    out = {}
    for name, (a, b) in (("opening", tuple(gaps)), ("width", tuple(widths))):
        both = np.isfinite(a) & np.isfinite(b)
        a, b = a[both], b[both]
        out |= {f"{name}_px": float(np.abs(a - b).mean()), f"{name}_bias_px": float((a - b).mean())}
        out |= {f"{name}_r": float(np.corrcoef(a, b)[0, 1]), f"{name}_source_px": float(b.mean())}
    return out


def blendshapes(reader: BlendshapeReader, images: list[np.ndarray]) -> np.ndarray:
    """[N, 43], nan where no face was found."""
    found = [reader(image) for image in images]
    keep = [not name.startswith(("eyeLook", "_")) for name in BLENDSHAPES]
    return np.stack([np.full(sum(keep), np.nan) if one is None else one[1][keep] for one in found])


def on_person(
    subject: Subject, args: argparse.Namespace, models: EvaluationModels, judge: FittedJudge | None
) -> dict[str, Any]:
    """All variants of one person."""
    frames = chosen_frames(subject, args.places, args.each)
    va = np.repeat(POINTS, args.places * args.each, 0)
    rows: dict[str, Any] = {}
    source, plain = None, None
    for name in args.variants or VARIANTS:
        images = edited(subject, VARIANTS[name], frames, va)
        scored = score(images, subject=subject, indices=frames, va=va, models=models)
        source = source or scored
        row: dict[str, Any] = {figure: scored.metrics[figure].value for figure in FIGURES if figure in scored.metrics}
        row["lips"] = lips(scored, source)
        points = subject.landmarks.points
        row["sharpness"] = float(
            np.mean([sharpness(image, points[i]) for image, i in zip(images, frames, strict=True)])
        )
        assert scored.observation is not None and scored.observation.va is not None
        row["units"] = agreement(scored.observation.va, va)
        if judge is not None:
            read = judge(blendshapes(BlendshapeReader(), images))
            plain = read if plain is None else plain
            row["fitted"] = agreement(read, va)
            row["fitted_change"] = agreement(read - plain, va)
            row["fitted_by_point"] = np.nanmean((read - plain).reshape(len(POINTS), -1, 2), 1).round(3).tolist()
        rows[name] = row
        print(name, {k: v for k, v in row.items() if k != "fitted_by_point"}, flush=True)
    return {"size": [subject.height, subject.width], "variants": rows, "over_time": over_time(subject, models)}


def over_time(subject: Subject, models: EvaluationModels) -> dict[str, dict[str, float]]:
    """Metrics of consecutive frames, recorded and with three emotions: flicker (grey levels), head jitter (px), lips.

    Within one emotion the lips' correlation with the recorded ones is that of speech alone.
    """
    frames = np.arange(STRIP) + subject.num_frames // 3
    rows, recorded = {}, None
    for name in (None, "angry", "happy", "afraid"):
        va = np.tile(PRESETS[name or "neutral"], (STRIP, 1))
        images = edited(subject, None if name is None else MeshWarpConfig(), frames, va)
        scored = score(images, subject=subject, indices=frames, models=models)
        recorded = recorded or scored
        row = {key: scored.metrics[key].value for key in ("flicker", "jitter_head")}
        row["pixels"] = pixel_flicker(images, subject.landmarks.points[frames])
        rows[name or "recorded"] = row | lips(scored, recorded)
    print("over time", rows, flush=True)
    return rows


def pixel_flicker(images: list[np.ndarray], points: np.ndarray) -> float:
    """Mean absolute second difference in time of the face's pixels, grey levels; the head's own motion included."""
    (left, top), (right, bottom) = points.min((0, 1)).astype(int).clip(0), points.max((0, 1)).astype(int)
    grey = np.stack([image[top:bottom, left:right].mean(2) for image in images])
    return float(np.abs(np.diff(grey, n=2, axis=0)).mean())


def main() -> None:
    args = arguments(__doc__)
    models = EvaluationModels.open(lpips="none")
    results: dict[str, Any] = {"places": args.places, "each": args.each, "threads": args.threads}
    judge = None
    if args.acted is not None:
        judge, results["ceiling"] = fit_judge(args)
    results["people"] = {}
    for number, folder in enumerate(args.subjects, 1):
        print(f"--- subject {number}", flush=True)
        results["people"][f"subject {number}"] = on_person(Subject.open(folder), args, models, judge)
    keys = [*FIGURES, "sharpness", "lips.opening_px", "lips.width_px", "lips.opening_r", "units.v_r", "units.a_r"]
    for kind in () if judge is None else ("fitted", "fitted_change"):
        keys += [f"{kind}.{name}" for name in ("v_r", "a_r", "v_sa", "a_sa")]
    people = [person["variants"] for person in results["people"].values()]
    results["mean"] = {
        name: {key: float(np.mean([_value(rows[name], key) for rows in people])) for key in keys}
        for name in args.variants or VARIANTS
    }
    for name, row in results["mean"].items():
        print(f"{name:12s} " + "  ".join(f"{key} {value:.3f}" for key, value in row.items()))
    print(write(args.name, results))


def _value(row: dict[str, Any], key: str) -> float:
    """``row["a"]["b"]`` for "a.b"."""
    for part in key.split("."):
        row = row[part]
    return float(row)  # pyright: ignore[reportArgumentType]


if __name__ == "__main__":
    main()
