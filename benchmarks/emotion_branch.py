"""What the emotion branch loses: moves of landmarks in a head's frames beside those in the targets that it learned.

python benchmarks/emotion_branch.py AVATAR SUBJECT [--frames 6] [--name NAME]

The same held-out frames with the emotions of the test points, and of eight directions at several radii: recorded
frames edited by the generator (targets), and the avatar's reconstructions. Moves are those from the unedited frame and
from the reconstruction without emotion. `gain`: the factor that brings the target's moves nearest to the avatar's;
`cosine`: how alike they are; `px`: mean length of the target's moves. Of each part of the face.
"""

import argparse
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from _expressive import ibug68
from _report import write

from emotalking.data import Subject
from emotalking.emotion.circumplex import TEST_POINTS
from emotalking.emotion.mesh_warp.warp import MeshWarpConfig
from emotalking.evaluate.held_out import pick_frames, reconstruct
from emotalking.faces.edit import FaceEditor
from emotalking.faces.generators import open_generator
from emotalking.faces.source import SubjectFaces
from emotalking.models.avatar import Avatar
from emotalking.ops.composite import to_uint8
from emotalking.preprocess.landmarks import MediaPipeMesh

PARTS = {"brows": range(17, 27), "lids": range(36, 48), "corners": (48, 54), "lips": (*range(49, 54), *range(55, 60))}
"""Indices among the 68 points."""
RADII = (0.25, 0.5, 0.8, 1.1)


def places() -> list[tuple[float, float]]:
    """The test points, then eight directions at every radius."""
    ring = [(r * np.cos(k * np.pi / 4), r * np.sin(k * np.pi / 4)) for r in RADII for k in np.arange(0.5, 8)]
    return [(p.valence, p.arousal) for p in TEST_POINTS] + [
        (float(np.clip(v, -1, 1)), float(np.clip(a, -1, 1))) for v, a in ring
    ]


def compared(ours: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Gain and cosine of moves [..., 2]; frames without a face are nan."""
    seen = np.isfinite(ours).all(-1) & np.isfinite(target).all(-1)
    a, b = ours[seen], target[seen]
    product, square = float((a * b).sum()), float((b * b).sum())
    row = {"gain": product / square, "cosine": product / np.sqrt(square * float((a * a).sum()))}
    return {key: round(value, 3) for key, value in row.items()} | {
        "px": round(float(np.linalg.norm(b, axis=-1).mean()), 2)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("avatar", type=Path)
    parser.add_argument("subject", type=Path)
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--name", default="emotion_branch")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    avatar, subject = Avatar.load(args.avatar), Subject.open(args.subject)
    indices = pick_frames(subject, args.frames, evenly=True)
    source, detector = SubjectFaces(subject), MediaPipeMesh()
    editor = FaceEditor(source, open_generator(source, MeshWarpConfig()))

    def painted(va: np.ndarray | None) -> np.ndarray:
        return ibug68(detector, (to_uint8(image) for image in reconstruct(avatar, subject, indices, va)))

    recorded, plain = ibug68(detector, (subject.original(int(index)) for index in indices)), painted(None)
    ours, targets = [], []
    for place in places():
        targets.append(ibug68(detector, (editor.images(int(index), [place])[0] for index in indices)) - recorded)
        ours.append(painted(np.tile(np.array(place, np.float32), (len(indices), 1))) - plain)
    mine, wanted = np.stack(ours), np.stack(targets)
    count = len(TEST_POINTS)
    results: dict[str, Any] = {"points": {}, "radii": {}}
    for number, point in enumerate(TEST_POINTS):
        name = f"{point.label} {point.valence:+.2f} {point.arousal:+.2f}"
        rows = {part: compared(mine[number][:, list(ids)], wanted[number][:, list(ids)]) for part, ids in PARTS.items()}
        results["points"][name] = rows
    for number, radius in enumerate(RADII):
        at = slice(count + 8 * number, count + 8 * number + 8)
        rows = {part: compared(mine[at][:, :, list(ids)], wanted[at][:, :, list(ids)]) for part, ids in PARTS.items()}
        results["radii"][f"{radius}"] = rows
    for kind, table in results.items():
        for name, rows in table.items():
            print(f"{kind:7s} {name:24s} " + "  ".join(f"{part} {row}" for part, row in rows.items()))
    print(write(args.name, results))


if __name__ == "__main__":
    main()
