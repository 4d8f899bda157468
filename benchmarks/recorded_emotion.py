"""What the valence and arousal read from a main clip's frames say of their images.

    python benchmarks/recorded_emotion.py --heads AVATAR ... --subjects FOLDER ... [--frames 100] [--device cpu]
        [--name recorded_emotion]

The heads must be trained with the readings as conditions, as all were before the main clip's frames counted as neutral
(``Subject.valence_arousal``). Each renders its own training frames, evenly spread, and its held-out frames with the
frames' readings, with the clip's mean reading, with neutral, and without its emotion branch: PSNR, and the lips of the
held-out frames. A reading that says something makes the training frames better than a constant does.
"""

import numpy as np
from _report import arguments, write

from emotalking.data import Subject
from emotalking.evaluate.evaluation_models import EvaluationModels
from emotalking.evaluate.held_out import reconstruct
from emotalking.evaluate.measure import measure
from emotalking.evaluate.metrics.lips import LIP_MOTION
from emotalking.models.avatar import Avatar
from emotalking.preprocess.landmarks import MediaPipeMesh

NAMES = ("psnr", "psnr_mouth", *LIP_MOTION)


def scores(avatar: Avatar, subject: Subject, indices: np.ndarray, va: np.ndarray | None) -> dict[str, float]:
    """Pixels and lips of the frames ``indices`` with these valence and arousal."""
    models = EvaluationModels(avatar.device, MediaPipeMesh)
    found = measure(reconstruct(avatar, subject, indices, va), subject=subject, indices=indices, models=models).metrics
    return {name: found[name].value for name in NAMES if name in found}


def main() -> None:
    """Run the benchmark."""
    args = arguments(__doc__)
    rows = {}
    for head, folder in zip(args.heads, args.subjects, strict=True):
        subject, avatar = Subject.open(folder), Avatar.load(head).to(args.device)
        read = subject.read_emotion
        assert read is not None, folder
        held, trained = np.asarray(subject.val_indices), np.asarray(subject.train_indices)
        some = trained[np.linspace(0, len(trained) - 1, args.frames).round().astype(int)]
        for split, indices in (("training", some), ("held out", held)):
            mean = read[trained].mean(0, keepdims=True).repeat(len(indices), 0)
            ways = {"read": read[indices], "mean": mean, "neutral": np.zeros_like(mean), "without": None}
            for way, va in ways.items():
                row = scores(avatar, subject, indices, va)
                rows.setdefault(f"{folder.name}, {head.stem}", {}).setdefault(split, {})[way] = row
                line = "  ".join(f"{name} {value:.3f}" for name, value in row.items())
                print(f"{folder.name:<10} {split:<9} {way:<8} {line}", flush=True)
    write(args.name, rows)


if __name__ == "__main__":
    main()
