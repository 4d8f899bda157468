"""What the emotion branch loses: moves of landmarks in a head's frames beside those in the targets that it learned.

python benchmarks/emotion_branch.py AVATAR SUBJECT [--frames 6] [--threads 1] [--name emotion_branch]

The same held-out frames with the emotions of the test points, and of eight directions at several radii: recorded
frames edited by the generator (targets), and the avatar's reconstructions. Moves are those from the unedited frame and
from the reconstruction without emotion. `gain`: the factor that brings the target's moves nearest to the avatar's;
`cosine`: how alike they are; `px`: mean length of the target's moves. Of each part of the face.
"""

from typing import Any

import numpy as np
import torch
from _expressive import ibug68
from _report import arguments, write

from emotalking.data import Subject
from emotalking.emotion.circumplex import TEST_POINTS
from emotalking.emotion.generator import EmotionGenerator
from emotalking.emotion.mesh_warp.warp import MeshWarpConfig
from emotalking.evaluate.held_out import pick_frames, reconstruct
from emotalking.faces.generators import open_generator
from emotalking.faces.source import SourceFrame, SubjectFaces
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


def compared(ours: np.ndarray, target: np.ndarray, made: np.ndarray | None = None) -> dict[str, float]:
    """Gain and cosine of moves [..., 2]; frames without a face are nan.

    Args:
        made: what the target's moves are without errors of detection, if that is known.
    """
    seen = np.isfinite(ours).all(-1) & np.isfinite(target).all(-1)
    a, b = ours[seen], target[seen]
    along = b if made is None else made[seen]
    gain = float((a * along).sum() / (b * along).sum())
    cosine = float((a * b).sum() / np.sqrt((b * b).sum() * (a * a).sum()))
    length = float(np.linalg.norm(b, axis=-1).mean())
    return {"gain": round(gain, 3), "cosine": round(cosine, 3), "px": round(length, 2)}


def edited(
    frame: SourceFrame, generator: EmotionGenerator, va: list[tuple[float, float]]
) -> tuple[list[np.ndarray], np.ndarray]:
    """A frame with emotions, and how far its landmarks moved [P, K, 2]."""

    def repeated(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).expand(len(va), *array.shape)

    points = repeated(frame.landmarks)
    faces = generator(
        repeated(frame.image[frame.box.index]).float() / 255,
        points,
        repeated(frame.labels),
        repeated(frame.viewmat),
        torch.tensor(va) * frame.share,
    )
    images = np.tile(frame.image, (len(va), 1, 1, 1))
    images[:, *frame.box.index] = to_uint8(faces.images)
    return list(images), (faces.landmarks - points).numpy()


def main() -> None:
    args = arguments(__doc__)
    avatar, subject = Avatar.load(args.avatar), Subject.open(args.subject)
    indices = pick_frames(subject, args.frames, evenly=True)
    source, detector = SubjectFaces(subject), MediaPipeMesh()
    generator = open_generator(source, MeshWarpConfig())
    ids68 = list(detector.layout.ibug68)

    def painted(va: np.ndarray | None) -> np.ndarray:
        return ibug68(detector, (to_uint8(image) for image in reconstruct(avatar, subject, indices, va)))

    recorded, plain = ibug68(detector, (subject.original(int(index)) for index in indices)), painted(None)
    every, targets, moves = places(), [], []
    for number, index in enumerate(indices):
        images, moved = edited(next(source.frames(int(index))), generator, every)
        targets.append(ibug68(detector, images) - recorded[number])
        moves.append(moved[:, ids68])
    wanted, made = np.stack(targets, 1), np.stack(moves, 1)
    ours = [painted(np.tile(np.array(place, np.float32), (len(indices), 1))) - plain for place in every]
    mine, count = np.stack(ours), len(TEST_POINTS)

    def rows(at: slice) -> dict[str, dict[str, float]]:
        return {
            part: compared(*(moves[at][:, :, list(ids)] for moves in (mine, wanted, made)))
            for part, ids in PARTS.items()
        }

    results: dict[str, Any] = {"all": {"points": rows(slice(count))}, "points": {}, "radii": {}}
    for number, point in enumerate(TEST_POINTS):
        name = f"{point.label} {point.valence:+.2f} {point.arousal:+.2f}"
        results["points"][name] = rows(slice(number, number + 1))
    for number, radius in enumerate(RADII):
        results["radii"][f"{radius}"] = rows(slice(count + 8 * number, count + 8 * number + 8))
    for kind, table in results.items():
        for name, parts in table.items():
            print(f"{kind:7s} {name:24s} " + "  ".join(f"{part} {row}" for part, row in parts.items()))
    print(write(args.name, results))


if __name__ == "__main__":
    main()
