"""Action units of the synthetic actor, by lengths on the face alone and with MediaPipe's blendshapes beside them.

python benchmarks/blendshapes.py

Three takes of 256 pixels, whose units are known: one plain talk, and two people who pass through seven emotions. The
poses are the true ones, so that nothing but the landmarks' and the measures' errors count. Prints the correlation with
the truth and the means; everything goes to results/blendshapes.json.
"""

from collections.abc import Iterable

import numpy as np
from _report import write

from emotalking.preprocess.action_units import head_points, lid_opening, raw_opening, units_from_rest
from emotalking.preprocess.face_measures import Rest, head_angles, measure
from emotalking.preprocess.import_subject import shape_under
from emotalking.preprocess.landmarks import MEDIAPIPE_LAYOUT as LAYOUT
from emotalking.preprocess.landmarks import MediaPipeMesh
from emotalking.preprocess.pose.track import project
from emotalking.preprocess.smoothing import steady
from emotalking.progress import track
from emotalking.testing.actor.actor import Actor
from emotalking.testing.actor.performance import Performance
from emotalking.testing.actor.state import ActorState
from emotalking.testing.actor.style import MAYA, ROBIN, ActorStyle

SIZE, FPS = 256, 25
PLACES = [(0.0, 0.0), (0.8, 0.3), (-0.7, 0.6), (-0.6, -0.6), (0.1, 0.9), (-0.85, -0.1), (0.6, -0.5)]
BY_BLENDSHAPES = ("frown", "shrug")


def emotional(seed: int) -> list[ActorState]:
    """Three seconds at each place."""
    takes = (Performance.generate(3.0, 10 * seed + k, FPS, place).states for k, place in enumerate(PLACES))
    return [state for take in takes for state in take]


def read(style: ActorStyle, states: Iterable[ActorState]) -> dict[str, dict[str, tuple[float, float]]]:
    """By unit: correlation and mean, by lengths alone and with blendshapes; the true mean."""
    actor, mesh = Actor(style, SIZE), MediaPipeMesh()
    seen, true, views = [], [], []
    for state in track(list(states), "act"):
        frame = actor.render(state)
        face = mesh.detect(frame.image)
        if face is not None:
            seen.append(face)
            true.append(dict(frame.aus))
            views.append(state.viewmat)
    points, viewmats, focal = np.array(seen, np.float64), np.array(views, np.float64), float(frame.K[0, 0])
    places, size, found = points[..., :2], (SIZE, SIZE), np.ones(len(seen), bool)
    shape = shape_under(places, points[..., 2], found, viewmats, focal, size, LAYOUT).shape
    calm = steady(places, project(shape, viewmats, focal, size), LAYOUT, fps=FPS)
    head = head_points(calm, viewmats, focal, shape, size)
    eyes = np.minimum(lid_opening(head, LAYOUT), raw_opening(places, viewmats, focal, shape, size, LAYOUT))
    measures, angles = measure(head, LAYOUT), head_angles(viewmats)
    lengths = {name: values for name, values in measures.items() if name not in BY_BLENDSHAPES}
    units = [
        units_from_rest(some, angles, eyes, Rest.fit(some, angles, LAYOUT, FPS), FPS) for some in (lengths, measures)
    ]
    out = {}
    for name in sorted(set(units[0]) & {unit for row in true for unit in row}):
        truth = np.array([row.get(name, 0.0) for row in true])
        columns = [one[name] for one in units]
        out[name] = {
            kind: (float(np.corrcoef(truth, values)[0, 1]) if values.std() * truth.std() else 0.0, float(values.mean()))
            for kind, values in zip(("lengths", "with blendshapes"), columns, strict=True)
        } | {"truth": (1.0, float(truth.mean()))}
    return out


def main() -> None:
    """Read the three takes."""
    takes = {
        "plain talk": read(ROBIN, Performance.generate(14.0, 1, FPS).states),
        "emotions, Robin": read(ROBIN, emotional(11)),
        "emotions, Maya": read(MAYA, emotional(12)),
    }
    for take, units in takes.items():
        print(f"\n{take}\n| unit | r, lengths | r, with blendshapes | mean | true mean |\n|---|---|---|---|---|")
        for name, row in units.items():
            before, after, truth = row["lengths"], row["with blendshapes"], row["truth"]
            print(f"| {name} | {before[0]:.2f} | {after[0]:.2f} | {after[1]:.2f} | {truth[1]:.2f} |")
    print(write("blendshapes", {"takes": takes}))


if __name__ == "__main__":
    main()
