"""How well the detector of lips agrees with itself, in each eleventh of a clip: what a head can reach there.

python benchmarks/lips_ceiling.py SUBJECT ... [--name lips_ceiling]

Opening and width of the recorded mouth against those that the same detector finds in the mirrored frames, as `evaluate`
has them for the recording: r and spread of a head whose lips are exactly the recorded ones. Beside them how far the
recorded values move (deviation in px), how much of that is one detection's error (deviation of the difference of the
two, over the root of 2), and how far the neutral face's move in the same poses: foreshortening.
"""

from typing import Any

import numpy as np
from _report import arguments, write
from jaxtyping import Float

from emotalking.data import Subject
from emotalking.evaluate.faces import MirroredFrames
from emotalking.evaluate.metrics.lips import PARTS, eye_distance, lip_series, series_scores
from emotalking.preprocess.landmarks import LandmarkProvider, MediaPipeMesh

BATCH = 64
"""Frames that are in memory at once."""


def detected(subject: Subject, provider: LandmarkProvider) -> Float[np.ndarray, "N 68 2"]:
    """iBUG points of all frames; nan without a face."""
    missing = np.full((68, 2), np.nan)
    points: list[np.ndarray] = []
    for begin in range(0, subject.num_frames, BATCH):
        images = [subject.target(index) for index in range(begin, min(begin + BATCH, subject.num_frames))]
        faces = provider.detect_many(images)
        points += [missing if face is None else face[list(provider.layout.ibug68), :2] for face in faces]
    provider.close()
    return np.stack(points).astype(np.float64)


def neutral(subject: Subject) -> Float[np.ndarray, "N 68 2"]:
    """Points of the neutral face in each frame's pose, px."""
    track = subject.landmarks
    assert track.shape is not None
    shape, views = track.shape[list(track.layout.ibug68)], subject.viewmats
    points = (np.einsum("nij,kj->nki", views[:, :3, :3], shape) + views[:, None, :3, 3]) @ subject.K.T
    return points[..., :2] / points[..., 2:]


def ceilings(subject: Subject) -> dict[str, Any]:
    """By part of the mouth, a row for each eleventh, then the whole clip."""
    recorded, again = (detected(subject, make) for make in (MediaPipeMesh(), MirroredFrames(MediaPipeMesh())))
    series, mirrored, still = (lip_series(points) for points in (recorded, again, neutral(subject)))
    scale, every = float(np.nanmedian(eye_distance(recorded))), np.arange(subject.num_frames)
    rows: dict[str, Any] = {}
    for part, theirs, ours, turned in zip(PARTS, series, mirrored, still, strict=True):
        for frames in [*np.array_split(every, 11), every]:
            scores = series_scores(ours[frames], theirs[frames], float(subject.fps))
            row = {
                "r": scores.r,
                "spread": scores.spread,
                "deviation_px": scale * np.nanstd(theirs[frames]),
                "error_px": scale * np.nanstd(theirs[frames] - ours[frames]) / np.sqrt(2),
                "foreshortening_px": scale * np.nanstd(turned[frames]),
            }
            rows.setdefault(part, []).append({name: round(float(value), 3) for name, value in row.items()})
    return rows


def main() -> None:
    """Run the benchmark."""
    args = arguments(__doc__)
    found = {path.name: ceilings(Subject.open(path)) for path in args.subjects}
    for name, parts in found.items():
        for part, rows in parts.items():
            print(name, part, "elevenths, then all")
            for score in rows[0]:
                print(f"   {score:<18} " + " ".join(f"{row[score]:6.2f}" for row in rows), flush=True)
    write(args.name, found)


if __name__ == "__main__":
    main()
