"""Measured motion of a face per action unit on expressive clips, next to the generator's table.

python benchmarks/expression_bases.py CLIPS [--name expression_bases]

CLIPS: a folder of videos. Names with "sweep" (one person going through many expressions, unlabelled) give the bases;
names that say an emotion (estimator_error.ACTED) give its mean displacement.

1. Every frame's 478 points are turned and scaled into the person's own head frame by the points that move with the
   skull alone, and the resting face (the tenth of the frames with the least expression) is subtracted.
2. Bases: ridge regression of these displacements on MediaPipe's blendshape scores, every clip with equal weight. A
   basis is given at the score that the units' strongest moments reach (95th percentile over the clips that show it).
3. The table's unit at coefficient 1, at the same points of a template made from the people's mean resting face:
   `ratio` is the factor that brings it nearest to the measured basis, `cosine` how alike the two fields are. Left
   and right halves are averaged. `depth` is the measured move towards the viewer, which the table does not have.

The labelled clips take no part in 2: an estimator fitted on them (benchmarks/faces.py) has seen none of these numbers.
Lengths are eye-centre distances; out: away from the midline; down: towards the chin.
"""

from typing import Any

import numpy as np
from _expressive import LAYOUT, Expressive, read_clip
from _report import arguments, write
from estimator_error import ACTED, CONTRADICTED
from scipy.interpolate import LinearNDInterpolator
from scipy.ndimage import map_coordinates
from scipy.spatial import KDTree

from emotalking.emotion.mesh_warp.displacement import edge_basis, face_map, skin_basis, template_grid
from emotalking.emotion.mesh_warp.expressions import load_expressions
from emotalking.emotion.mesh_warp.template import build_template, corner_lift
from emotalking.preprocess.blendshapes import BLENDSHAPES
from emotalking.progress import track

UNITS: dict[str, tuple[str, tuple[str, ...]]] = {
    "AU1": ("browInnerUp", ("brow_inner", "forehead")),
    "AU2": ("browOuterUp", ("brow_outer", "brow_middle")),
    "AU4": ("browDown", ("brow_inner", "brow_middle")),
    "AU5": ("eyeWide", ("upper_lid",)),
    "AU7": ("eyeSquint", ("lower_lid", "upper_lid")),
    "AU10": ("mouthUpperUp", ("lip_fold", "wing")),
    "AU12c": ("mouthSmile", ("cheek", "cheek_outer", "lip_fold")),
    "LC": ("mouthSmile", ("corner",)),
    "AU17": ("mouthShrugLower", ("chin",)),
    "JAW": ("jawOpen", ("chin", "jaw")),
}
"""Unit of the table: blendshape that stands for it, and where the two are compared. The smile's corner (LC) is compared
in height alone: the table keeps the mouth's width. MediaPipe's cheekSquint and noseSneer answer to nothing in practice,
so AU6 and AU9 have no basis of their own: what they add is in eyeSquint's and mouthUpperUp's."""
OTHERS = ("mouthFrown", "mouthPucker", "mouthStretch", "eyeBlink", "eyeLookDown", "mouthFunnel", "mouthPress")
"""Moves that must not be ascribed to the units."""
PLACES: dict[str, tuple[int, ...]] = {
    "brow_inner": (107, 55),
    "brow_middle": (105, 52),
    "brow_outer": (63, 53),
    "forehead": (69, 108),
    "upper_lid": (159, 158, 160),
    "lower_lid": (145, 153, 144),
    "cheek": (50, 101, 205),
    "cheek_outer": (187, 147, 123),
    "lip_fold": (92, 165, 203),
    "wing": (48, 64, 98),
    "corner": (61,),
    "chin": (152, 175, 199),
    "jaw": (136, 150, 172),
}
"""Points of the person's right half."""
RIDGE = 0.01


def predictors(clip: Expressive) -> tuple[list[str], np.ndarray]:
    """Names and scores [N, P] of the blendshapes; the two sides of one are averaged."""
    stems = list(dict.fromkeys([shape for shape, _ in UNITS.values()] + list(OTHERS)))
    columns = [
        clip.score(*[name for name in BLENDSHAPES if name in (stem, f"{stem}Left", f"{stem}Right")]) for stem in stems
    ]
    return stems, np.stack(columns, 1)


def symmetric(moves: np.ndarray, face: np.ndarray) -> np.ndarray:
    """[..., 478, 3] moves averaged over the two halves of a face [478, 3]; x becomes "away from the midline"."""
    twin = KDTree(face).query(face * [-1, 1, 1])[1]
    outward = moves * np.stack([np.sign(face[:, 0]), np.ones(len(face)), np.ones(len(face))], 1)
    return (outward + outward[..., twin, :]) / 2


def measure_bases(clips: list[Expressive]) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """The mean resting face [478, 3], the bases [U, 478, 3] in the order of `UNITS`, and facts of the fit."""
    face = np.mean([clip.neutral for clip in clips], 0)
    gram, cross, strongest, explained = 0.0, 0.0, [], {}
    for clip in clips:
        stems, scores = predictors(clip)
        moves = symmetric(clip.points - clip.neutral, face).reshape(len(scores), -1)
        scores = scores - np.median(scores[clip.rest], 0)
        gram, cross = gram + scores.T @ scores / len(scores), cross + scores.T @ moves / len(scores)
        strongest.append(np.percentile(scores, 95, 0))
    bases = np.linalg.solve(gram + RIDGE * np.eye(len(stems)), cross)
    for number, clip in enumerate(clips, 1):
        _, scores = predictors(clip)
        moves = symmetric(clip.points - clip.neutral, face).reshape(len(scores), -1)
        left = moves - (scores - np.median(scores[clip.rest], 0)) @ bases
        explained[f"person {number}"] = float(1 - np.square(left).sum() / np.square(moves).sum())
    # Of the clips that show a shape: the better half.
    full = np.median(np.sort(strongest, 0)[len(strongest) // 2 :], 0)
    index = [stems.index(shape) for shape, _ in UNITS.values()]
    bases = (bases * full[:, None])[index].reshape(len(UNITS), -1, 3)
    facts = {"explained": explained, "score": {u: float(full[k]) for u, k in zip(UNITS, index, strict=True)}}
    return face, bases, facts


def table_moves(face: np.ndarray) -> dict[str, np.ndarray]:
    """The table's units at coefficient 1, (out, down) at the 478 points [478, 2]."""
    table = load_expressions()
    template = build_template(face * [1, -1, 1] * 0.063, LAYOUT)
    grid = template_grid(template)
    where = face_map(template, grid, table.anchors)
    fields = skin_basis(grid, table, where) + edge_basis(template, grid, table, where)
    steps = (template.points[:478] - grid.origin) / (np.array(grid.size) / [grid.width - 1, grid.height - 1])
    out = {}
    for name, field in zip(table.unit_names, fields, strict=True):
        moves = np.stack([map_coordinates(plane, steps.T[::-1], order=1) for plane in field], 1)
        out[name] = moves * np.stack([np.sign(face[:, 0]), np.ones(len(face))], 1)
    return out


def compare(bases: np.ndarray, table: dict[str, np.ndarray]) -> dict[str, Any]:
    """A row a unit."""
    rows: dict[str, Any] = {}
    for (unit, (shape, names)), basis in zip(UNITS.items(), bases, strict=True):
        points = [k for name in names for k in PLACES[name]]
        axes = slice(1, 2) if unit == "LC" else slice(0, 2)
        true, ours = basis[points, axes].ravel(), table[unit][points, axes].ravel()
        rows[unit] = {
            "blendshape": shape,
            "ratio": float(true @ ours / (ours @ ours)),
            "cosine": float(true @ ours / np.sqrt((true @ true) * (ours @ ours))),
            "places": {
                name: {
                    "measured": [round(float(v), 4) for v in basis[list(PLACES[name])].mean(0)[:2]],
                    "table": [round(float(v), 4) for v in table[unit][list(PLACES[name])].mean(0)],
                    "depth": round(float(basis[list(PLACES[name])].mean(0)[2]), 4),
                }
                for name in PLACES
            },
        }
        print(f"{unit:6s} {shape:18s} ratio {rows[unit]['ratio']:5.2f}  cosine {rows[unit]['cosine']:5.2f}")
        for name in names:
            row = rows[unit]["places"][name]
            print(f"       {name:14s} measured {row['measured']}  table {row['table']}  depth {row['depth']:+.4f}")
    return rows


def sliding(face: np.ndarray, bases: np.ndarray) -> dict[str, float]:
    """Skin slides over the head: how much of the measured moves in depth follows from those sideways.

    Correlation and slope of the measured depth on what the resting surface gives at the place that each point comes to,
    over all places of all units but the jaw's (bone, not skin).
    """
    points = [k for ids in PLACES.values() for k in ids]
    surface = LinearNDInterpolator(face[:, :2], face[:, 2])
    skin = [k for k, name in enumerate(UNITS) if name not in ("JAW", "AU17")]
    moves = bases[skin][:, points]
    side = np.sign(face[points, :1])
    there = face[points, :2] + moves[..., :2] * np.concatenate([side, np.ones_like(side)], 1)
    told, true = (surface(there) - surface(face[points, :2])).ravel(), moves[..., 2].ravel()
    both = np.isfinite(told)
    told, true = told[both], true[both]
    out = {"r": float(np.corrcoef(told, true)[0, 1]), "slope": float(told @ true / (told @ told))}
    print("depth from sliding over the resting surface:", {k: round(v, 2) for k, v in out.items()})
    return out


def emotion_means(clips: dict[str, Expressive], face: np.ndarray) -> dict[str, Any]:
    """Mean displacement of the labelled clips at every place: how far emotional people are from their own rest.

    An underestimate where a clip never comes to rest.
    """
    rows = {}
    for name, clip in clips.items():
        moves = symmetric(clip.points - clip.neutral, face).mean(0)
        lift = corner_lift(build_template(np.median(clip.points, 0) * [1, -1, 1] * 0.063, LAYOUT))
        rows[name] = {place: [round(float(v), 4) for v in moves[list(ids)].mean(0)] for place, ids in PLACES.items()}
        rows[name]["corner_lift"] = [round(lift, 4)]
        upper = {place: rows[name][place][1] for place in ("brow_inner", "brow_outer", "upper_lid", "lower_lid")}
        print(f"{name:22s} down: {upper}  corner {rows[name]['corner'][:2]}  cheek {rows[name]['cheek'][:2]}")
    return rows


def main() -> None:
    args = arguments(__doc__)
    clips = {path.stem: read_clip(path) for path in track(sorted(args.clips.glob("*.mp4")), "clips")}
    sweeps = [clip for name, clip in clips.items() if "sweep" in name]
    face, bases, facts = measure_bases(sweeps)
    print({name: round(share, 2) for name, share in facts["explained"].items()}, "of the moves' squares explained")
    results: dict[str, Any] = {"people": len(sweeps), "frames": sum(len(c.points) for c in sweeps), **facts}
    results["units"] = compare(bases, table_moves(face))
    results["sliding"] = sliding(face, bases)
    acted: dict[str, Expressive] = {}
    for name, clip in clips.items():
        label = next((label for word, label in ACTED.items() if word in name), None)
        if label is not None and not any(word in name for word in CONTRADICTED):
            acted[f"{label} {sum(key.startswith(label) for key in acted) + 1}"] = clip
    results["emotions"] = emotion_means(acted, face)
    print(write(args.name, results))


if __name__ == "__main__":
    main()
