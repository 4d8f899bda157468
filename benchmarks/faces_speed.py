"""Milliseconds an emotional picture of the embedded generator takes, beside one bicubic fetch of its every pixel.

python benchmarks/faces_speed.py SUBJECT [--device cpu] [--batches 1 8 ...] [--threads N] [--name NAME]

The fetch is the least that any warp does. A picture is a whole frame of the subject with masks (and normals): what a
training step asks for. On a GPU with our own kernels, else with torch's operations alone.
"""

from typing import Any

import torch
import torch.nn.functional as F
from _report import arguments, line, measure, ratio, write

from emotalking.data import Subject
from emotalking.data.audio_features import DEFAULT_FEATURE
from emotalking.train.data import TrainingData
from emotalking.train.run import emotion_generator


def timing(data: TrainingData, batch: int) -> dict[str, Any]:
    """Of ``batch`` pictures at once, every one with an emotion of its own."""
    rows = torch.arange(batch, device=data.device)
    images = data.images[rows].float() / 255
    points, labels, viewmats = data.points[rows], data.labels[rows], data.conditions.viewmats[rows]
    va = torch.rand(batch, 2, generator=torch.Generator().manual_seed(0)).to(data.device) * 2 - 1
    generator, normals = emotion_generator(data), torch.zeros_like(images)
    grid = F.affine_grid(torch.eye(2, 3).expand(batch, 2, 3), list(images.permute(0, 3, 1, 2).shape), False)
    grid, channels = grid.to(data.device), images.permute(0, 3, 1, 2)
    runs = {
        "edit": measure(lambda: generator(images, points, labels, viewmats, va)),
        "edit with normals": measure(lambda: generator(images, points, labels, viewmats, va, normals)),
        "one bicubic fetch": measure(lambda: F.grid_sample(channels, grid, mode="bicubic", align_corners=False)),
    }
    for name, found in runs.items():
        print(line(f"{batch} pictures at once: {name}", found))
    return {
        **runs,
        "ms_a_picture": runs["edit"]["median_ms"] / batch,
        "fetches": 1 / ratio(runs["edit"], runs["one bicubic fetch"]),
    }


def main() -> None:
    args = arguments(__doc__)
    subject = Subject.open(args.subject)
    frames = subject.train_indices[: max(args.batches)]
    data = TrainingData.load(subject, frames, DEFAULT_FEATURE, torch.device(args.device))
    results: dict[str, Any] = {"size": [subject.height, subject.width], "threads": args.threads}
    results["batches"] = {str(batch): timing(data, batch) for batch in args.batches}
    print(write(args.name or f"faces_speed_{data.device.type}", results))


if __name__ == "__main__":
    main()
