"""Error of the embedded emotion models themselves: no avatar can score better than the model that reads it.

python benchmarks/estimator_error.py [--acted FOLDER] [--subject FOLDER] [--emotion-model landmarks] [--seeds 1]

1. On actors of every look, whose valence and arousal are known exactly: a clip in which they mostly rest, then a run at
   each of the twelve test points while they talk; RMSE, sign agreement, accuracy of the labels. ``mean`` is also
   written into the package (``evaluate/estimator_error.json``), which prints it beside an avatar's metrics.
2. What a gain and an offset would bring, fitted on one look and tried on the others.
3. On acted clips (``--acted``) whose file names say the emotion: nobody knows their exact valence and arousal, so
   signs, order and the label's place among the scores. The face at rest is guessed from each clip itself.
4. On recorded frames that only passed through another JPEG: what LMD and AUE are for next to no change.
"""

import json
import math
import tempfile
from dataclasses import replace
from fractions import Fraction
from itertools import permutations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from _report import arguments, write

from emotalking.data import Subject
from emotalking.emotion.circumplex import PRESETS, TEST_POINTS
from emotalking.evaluate import estimator_error
from emotalking.evaluate.evaluation_models import CIRCUMPLEX_CLASSES, EmotionModel, EvaluationModels
from emotalking.evaluate.faces import FaceDescriber, FaceObserver, FaceReference
from emotalking.evaluate.measure import Measurement, measure
from emotalking.evaluate.metrics.expression import ranks, sign_agreement, top_k
from emotalking.evaluate.observation import predict_emotion
from emotalking.io.display import to_rgb
from emotalking.io.files import write_bytes
from emotalking.io.video import decode_frames
from emotalking.preprocess.config import PoseConfig
from emotalking.preprocess.landmarks import MediaPipeMesh
from emotalking.testing.actor.actor import Actor
from emotalking.testing.actor.performance import Performance
from emotalking.testing.actor.style import STYLES, ActorStyle
from emotalking.testing.actor_subject import write_actor_subject

REST_S, RUN_S, SIZE = 8.0, 1.2, 256
"""Seconds of rest and of each point; side of the images."""
NAMES = ("v_rmse", "a_rmse", "v_sa", "a_sa", "e_top1", "e_top3")
POINTS = np.array([(point.valence, point.arousal) for point in TEST_POINTS])
ACTED = {"furious": "anger", "happy": "happy", "sad": "sad", "fear": "fear", "disgusted": "disgust"}
ACTED |= {"surprised": "surprise", "contempt": "contempt"}
"""Words in file names and what they mean; contempt has no place of its own on the circumplex."""
CONTRADICTED = ("furious2",)
"""Clips whose images contradict their names (a man who beams); they are read, and left out of what is said of all."""
FEW_LOOKS = 150
"""Frames of an acted clip that tell where its face rests."""
CLEARLY = 0.3
"""Emotions whose valence (arousal) lies further apart than this have an order."""


def actor_subject(folder: Path, style: ActorStyle, seed: int) -> tuple[Subject, Actor]:
    """A subject folder with a person who mostly rests."""
    script, actor = Performance.generate(REST_S, seed), Actor(style, SIZE)
    states = (actor.render(state) for state in script.states)
    layout = actor.layout
    rate = Fraction(25)
    return write_actor_subject(folder, states, script.waveform, rate, layout, actor.neutral_landmarks()), actor


def on_actor(models: EvaluationModels, style: ActorStyle, seed: int) -> Measurement:
    """The twelve points played by an actor who talks meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        subject, actor = actor_subject(Path(folder) / "subject", style, seed)
        script = Performance.generate(RUN_S * len(TEST_POINTS), seed + 100)
        length = len(script.states) // len(TEST_POINTS)
        va = np.repeat(POINTS, length, 0)
        states = [
            replace(state, valence=float(v), arousal=float(a))
            for state, (v, a) in zip(script.states[: len(va)], va, strict=True)
        ]
        frames = (actor.render(state).image for state in states)
        return measure(frames, subject=subject, indices=None, va=va, models=models)


def keep(model: str, metrics: dict[str, float], people: int) -> None:
    """Record of a model for the package's data file."""
    path = Path(estimator_error.__file__).with_name(estimator_error.DATA)
    known = json.loads(path.read_text("utf-8"))
    where = f"{people} synthetic actors at the twelve test points, talking"
    known[model] = {"measured_on": where, "metrics": {name: round(value, 6) for name, value in metrics.items()}}
    write_bytes(path, (json.dumps(known, indent=2, sort_keys=True) + "\n").encode())


def rmse(read: np.ndarray, true: np.ndarray) -> float:
    return float(np.sqrt(np.mean((read - true) ** 2)))


def with_gain(readings: dict[str, list[np.ndarray]]) -> dict[str, Any]:
    """Arousal as tanh(g atanh(a) + b), g and b from one look: RMSE and sign agreement on the others, before and after.

    Args:
        readings: look to measured valence and arousal of each of its performances [N, 2].
    """
    pairs = {}
    for name, runs in readings.items():
        read = np.concatenate([run[:, 1] for run in runs])
        true = np.concatenate([np.repeat(POINTS[:, 1], len(run) // len(POINTS)) for run in runs])
        there = np.isfinite(read)
        pairs[name] = (np.arctanh(np.clip(read[there], -0.999, 0.999)), true[there])
    grid = [(g, b) for g in np.arange(0.5, 4.0, 0.1) for b in np.arange(-0.6, 0.6, 0.02)]
    best = {n: min(grid, key=lambda gb: rmse(np.tanh(gb[0] * r + gb[1]), t)) for n, (r, t) in pairs.items()}
    rows = {}
    for fitted, tried in permutations(pairs, 2):
        (gain, offset), (read, true) = best[fitted], pairs[tried]
        after, before = np.tanh(gain * read + offset), np.tanh(read)
        rows[f"fitted on {fitted}, tried on {tried}"] = {
            "gain": float(gain),
            "offset": float(offset),
            "a_rmse": [rmse(before, true), rmse(after, true)],
            "a_sa": [float((np.sign(x) == np.sign(true)).mean()) for x in (before, after)],
            "correlation": float(np.corrcoef(before, true)[0, 1]),
        }
    return rows


def faces_of(clip: Path, describers: dict[str, FaceDescriber]) -> tuple[Any, dict[str, np.ndarray], float]:
    """A clip's faces, their action units from its own rest, and its frame rate."""
    times = [time for time, _ in decode_frames(clip)]
    fps, stride = (len(times) - 1) / (times[-1] - times[0]), -(-len(times) // FEW_LOOKS)
    some = (to_rgb(frame) for number, (_, frame) in enumerate(decode_frames(clip)) if number % stride == 0)
    provider = MediaPipeMesh()
    first = to_rgb(next(iter(decode_frames(clip)))[1])
    reference = FaceReference.from_frames(some, provider, PoseConfig().focal_ratio * first.shape[1], fps / stride)
    provider.close()
    assert reference is not None, clip.name
    observer = FaceObserver(reference, MediaPipeMesh, describers)
    for _, frame in decode_frames(clip):
        observer.add(to_rgb(frame))
    faces = observer.faces()
    assert faces is not None, clip.name
    return faces, faces.units(reference.rest, [slice(0, len(faces.found))], fps), fps


def on_clip(model: EmotionModel, clip: Path) -> tuple[np.ndarray, np.ndarray]:
    """Valence and arousal [N, 2] and class scores of a clip's frames with a face, held against its own rest."""
    faces, units, fps = faces_of(clip, {"emotion": FaceDescriber(model.describe)})
    said = predict_emotion(model, faces, units, [slice(0, len(faces.found))], fps)
    return said.va[faces.found], said.scores[faces.found]


def on_acted(model: EmotionModel, folder: Path) -> dict[str, Any]:
    """Every clip whose name says an emotion, and what can be said of all."""
    clips = [
        (label, clip) for clip in sorted(folder.glob("*.mp4")) for word, label in ACTED.items() if word in clip.stem
    ]
    rows, count = {}, dict.fromkeys(ACTED.values(), 0)
    for label, clip in clips:
        va, scores = on_clip(model, clip)
        count[label] += 1
        row: dict[str, Any] = {"label": label, "frames": len(va)}
        row |= {name: float(va[:, axis].mean()) for axis, name in enumerate(("valence", "arousal"))}
        if any(word in clip.stem for word in CONTRADICTED):
            row["left_out"] = "the images contradict the name"
        elif label in CIRCUMPLEX_CLASSES:
            for axis, letter in enumerate("va"):
                place = np.full(len(va), PRESETS[CIRCUMPLEX_CLASSES[label]][axis])
                row[f"{letter}_sa"] = float(sign_agreement(va[:, axis], place).mean())
            rank = ranks(scores, model.classes, [label] * len(va))
            row |= {f"e_top{k}": float(top_k(rank, k).mean()) for k in (1, 3)}
        rows[f"{label} {count[label]}"] = row
        print(f"{label:10s} " + "  ".join(f"{k} {v:.3f}" for k, v in row.items() if not isinstance(v, str)), flush=True)
    placed = [row for row in rows.values() if "v_sa" in row]
    out: dict[str, Any] = {"clips": rows, "placed_clips": len(placed)}
    out["mean_over_clips"] = {
        name: float(np.mean([row[name] for row in placed])) for name in NAMES if name in placed[0]
    }
    out["ordered_pairs"] = {letter: ordered(placed, axis) for axis, letter in enumerate(("valence", "arousal"))}
    signs = np.sign([PRESETS[CIRCUMPLEX_CLASSES[row["label"]]] for row in placed])
    out["sign_agreement_of_the_best_constant"] = {
        letter: float(max((signs[:, axis] > 0).mean(), (signs[:, axis] < 0).mean())) for axis, letter in enumerate("va")
    }
    return out


def ordered(rows: list[dict[str, Any]], axis: int) -> dict[str, float | int]:
    """Of the pairs of clips clearly apart on one axis: the share whose means stand in the right order (.5: chance)."""
    name, right = ("valence", "arousal")[axis], []
    for a, b in permutations(rows, 2):
        apart = PRESETS[CIRCUMPLEX_CLASSES[a["label"]]][axis] - PRESETS[CIRCUMPLEX_CLASSES[b["label"]]][axis]
        if apart > CLEARLY:
            right.append(a[name] > b[name])
    return {"share": float(np.mean(right)), "pairs": len(right)}


def through_jpeg(models: EvaluationModels, subject: Subject, quality: int) -> dict[str, float]:
    """LMD and AUE of the recording against itself, compressed once more."""
    indices = subject.val_indices[:75]

    def again(index: int) -> np.ndarray:
        _, data = cv2.imencode(".jpg", subject.target(index), [cv2.IMWRITE_JPEG_QUALITY, quality])
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))

    frames = (again(int(index)) for index in indices)
    found = measure(frames, subject=subject, indices=indices, models=models).metrics
    return {name: found[name].value for name in ("psnr", "lmd", "aue_u", "aue_l")}


def report(title: str, scored: Measurement) -> dict[str, float | int]:
    """Prints and returns the metrics of one actor."""
    found = {name: scored.metrics[name].value for name in NAMES}
    found["missing"] = scored.metrics["v_rmse"].missing
    print(f"{title:24s} " + "  ".join(f"{name} {value:.3f}" for name, value in found.items()), flush=True)
    return found


def main() -> None:
    args = arguments(__doc__)
    models = EvaluationModels.open(lpips="none", emotion=args.emotion_model, identity=False)
    assert models.emotion is not None
    rows: dict[str, Any] = {"model": models.emotion.name, "actors": {}}
    readings: dict[str, list[np.ndarray]] = {name: [] for name in STYLES}
    for name, style in STYLES.items():
        for seed in range(args.seeds):
            title = f"{name}, seed {seed}"
            scored = on_actor(models, style, seed)
            rows["actors"][title] = report(title, scored)
            assert scored.observation is not None and scored.observation.va is not None
            readings[name].append(scored.observation.va)
    tables = list(rows["actors"].values())
    rows["mean"] = {name: float(np.mean([t[name] for t in tables])) for name in NAMES}
    print("mean", {name: round(value, 3) for name, value in rows["mean"].items()})
    keep(rows["model"], rows["mean"], len(STYLES))
    rows["rmse_of_a_reader_that_always_says_0"] = math.sqrt(float(np.mean([p.valence**2 for p in TEST_POINTS])))
    rows["arousal_with_gain_and_offset"] = with_gain(readings)
    for title, row in rows["arousal_with_gain_and_offset"].items():
        print(title, {key: np.round(value, 3).tolist() for key, value in row.items()})
    if args.acted is not None:
        rows["acted"] = on_acted(models.emotion, args.acted)
        print({name: rows["acted"][name] for name in rows["acted"] if name != "clips"})
    if args.subject is not None:
        rows["jpeg"] = {q: through_jpeg(models, Subject.open(args.subject), q) for q in (95, 75)}
        print(rows["jpeg"])
    print(write("estimator_error", rows))


if __name__ == "__main__":
    main()
