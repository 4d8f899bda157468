"""Emotion that is seen at the twelve test points while speaking: of targets, and of trained heads.

python benchmarks/emotion_judges.py [SUBJECT ...] [--acted CLIPS] [--fitted FILE] [--neutral CLIP ...]
    [--network FILE] [--heads FILE ...] [--audio SOUND ...] [--store FOLDER] [--quality 86] [--stored FILE ...]
    [--no-targets] [--sheets FOLDER] [--places 2] [--each 8] [--threads 1] [--device cpu] [--name emotion_judges]

For each subject the generator's targets, and for each head (in the order of the subjects, at its subject's held-out
poses) rendered speech, at neutral and at the twelve points (docs/paper.md 9.3). With --store nothing is judged: the
heads' frames go into a file each (FOLDER/head1.npz), which --stored reads elsewhere, in the order of the subjects,
again and again for several heads of each; with it come PSNR of held-out frames without emotion and with the recorded
one (FOLDER/psnr.json). --fitted FILE keeps the judges as fitted beside that network: where it exists it is read, and no
clips are. Judges, all relative to the person's own neutral frames:
- "gradients", and with --network "network" (the file of fer or of face-api, benchmarks/_appearance.py): held out,
  nothing was tuned on them (benchmarks/_judges.py);
- "blendshapes" and "landmarks", fitted to acted clips alone, but looked at while tuning;
- "units": rules on action units (emotion.estimator), fitted to nothing.

Of each: correlation with the command over the twelve points' means (and its 95 % interval over resampled frames), signs
that agree, frames read as the point's label, and correlation under shuffled labels. "ceiling": acted clips of people
who were left out of the fit. "amplitudes": how far their emotions move places of the face. "lips", "jitter",
"identity", "jump": benchmarks/_emotion_columns.py.
"""

import argparse
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from _appearance import Observe, appearance_reader
from _emotion_columns import identity, jitter, jump, lips
from _emotion_series import NAMES, POINTS, psnr, rendered, store_frames, stored_frames, targets
from _expressive import BlendshapeReader, Expressive, read, read_clip
from _judges import CLASSES, Bench, fit, load, observed, save
from _report import arguments, write
from estimator_error import ACTED

from emotalking.data import Subject
from emotalking.emotion.circumplex import TEST_POINTS
from emotalking.evaluate.evaluation_models import EvaluationModels
from emotalking.evaluate.measure import measure
from emotalking.io.display import to_rgb
from emotalking.io.files import write_bytes
from emotalking.io.images import write_image
from emotalking.io.video import decode_frames
from emotalking.models.avatar import Avatar
from emotalking.report.contact_sheet import contact_sheet

LABELS = [CLASSES.index(point.label) for point in TEST_POINTS]
PSNR_FRAMES = 24
"""Held-out frames."""
DRAWS = 500
"""Resamplings of frames, and shufflings of labels."""


def read_some(path: Path, observe: Observe | None = None) -> Expressive:
    """A clip; of people who just talk, every third frame of the first 450 is enough."""
    if any(word in path.stem for word in (*ACTED, "sweep")):
        return read_clip(path, observe)
    return read(path.stem, (to_rgb(frame) for _, frame in islice(decode_frames(path), 0, 450, 3)), observe)


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


def judged(
    bench: Bench, series: list[list[np.ndarray]], units: list[np.ndarray], observe: Observe, runs: int
) -> dict[str, Any]:
    """All judges and columns on neutral images, those of every point, and (of heads) those of moving emotion.

    Args:
        runs: equal runs of neighbouring frames in each.
    """
    both, pixels = observed([image for images in series for image in images], BlendshapeReader(), observe)
    ends = np.cumsum([len(images) for images in series])
    spans = [slice(end - len(images), end) for images, end in zip(series, ends, strict=True)]
    looks, count = [both[span] for span in spans], len(NAMES)
    rows: dict[str, Any] = {}
    for name in bench.judges:
        read = [bench.read(look.windows(), looks[0])[name] for look in looks[1:count]]
        hits = np.array([(scores.argmax(1) == label).mean() for (_, scores), label in zip(read, LABELS, strict=True)])
        rows[name] = summary([va for va, _ in read], hits)
        rows[name]["read_as"] = [CLASSES[int(np.nanmean(scores, 0).argmax())] for _, scores in read]
    rows["units"] = summary([values - np.nanmean(units[0], 0) for values in units[1:count]], None)
    points = [look.points for look in looks]
    rows["lips"] = lips(points[:count])
    rows["jitter"] = jitter(points[:count], runs)
    rows["identity"] = identity(series[:count], [pixels[span] for span in spans[:count]])
    if len(series) > count:
        rows["jump"] = jump(points[count], points[0])
    return rows


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
    faces = [images[middle][max(top - (bottom - top) // 5, 0) : bottom, left:right] for images in series[: len(NAMES)]]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, contact_sheet(faces, NAMES, columns=5, cell=300))


def store_heads(args: argparse.Namespace) -> None:
    """Frames and PSNR of every head; see the module."""
    found = {}
    for number, head in enumerate(args.heads):
        subject = Subject.open(args.subjects[number % len(args.subjects)])
        avatar = Avatar.load(head, args.device)
        name = f"head{number + 1}"
        store_frames(
            args.store / f"{name}.npz", list(rendered(avatar, subject, args.audio, args.each)), subject, args.quality
        )
        found[name] = {"psnr": psnr(avatar, subject, PSNR_FRAMES)}
        print(name, found[name], flush=True)
    write_bytes(args.store / "psnr.json", (json.dumps(found, indent=1) + "\n").encode())


def kinds(
    args: argparse.Namespace, number: int, subject: Subject
) -> Iterator[tuple[str, list, np.ndarray | None, int]]:
    """Name, series, frame numbers and number of runs of what is judged of a subject."""
    if not args.no_targets:
        made = list(targets(subject, args.places, args.each))
        yield "targets", [images for _, images in made], made[0][0], args.places
    for k, head in enumerate(args.heads[number :: len(args.subjects)]):
        count = args.places * args.each
        shown = list(rendered(Avatar.load(head, args.device), subject, args.audio, count))
        yield f"head {k}", shown, None, max(len(args.audio), 1)
    for k, path in enumerate(args.stored[number :: len(args.subjects)]):
        yield f"head {k}", stored_frames(path), None, 1


def main() -> None:
    args = arguments(__doc__)
    if args.store is not None:
        store_heads(args)
        return
    observe = appearance_reader(args.network)
    if args.fitted is not None and args.fitted.exists():
        bench = load(args.fitted, network=args.network is not None)
    else:
        bench = fit(args.acted.glob("*.mp4"), args.neutral, lambda path: read_some(path, observe))
        if args.fitted is not None:
            save(args.fitted, bench)
    results: dict[str, Any] = {"ceiling": bench.ceiling, "amplitudes": bench.amplitudes, "people": {}}
    models = EvaluationModels.open(lpips="none", identity=False)
    for number, folder in enumerate(args.subjects):
        subject, rows = Subject.open(folder), {}
        for kind, series, frames, runs in kinds(args, number, subject):
            units = [units_of(subject, images, frames, models) for images in series[: len(NAMES)]]
            rows[kind] = judged(bench, series, units, observe, runs)
            if args.sheets is not None:
                sheet(args.sheets / f"subject{number + 1}_{kind.replace(' ', '')}.png", series, subject)
            for judge, found in rows[kind].items():
                if isinstance(found, dict) and "v_r" in found:
                    found = {k: round(v, 2) for k, v in found.items() if isinstance(v, float | int)}
                print(f"subject {number + 1} {kind:8s} {judge:12s} {found}", flush=True)
        results["people"][f"subject {number + 1}"] = rows
    print(write(args.name, results))


if __name__ == "__main__":
    main()
