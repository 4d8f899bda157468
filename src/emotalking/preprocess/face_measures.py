"""Lengths on the face that FACS describes: measured in the head frame, freed of the head's pose, from rest.

Unit of all lengths: hundredths of the distance between the eye centres (one is about 0.6 mm). Two measures are no
lengths: what MediaPipe's blendshapes (:mod:`~emotalking.preprocess.blendshapes`) say of the brows and of the chin.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from emotalking.data.layouts import EYE_DISTANCE, FaceLayout
from emotalking.preprocess.blendshapes import BLENDSHAPES, read_blendshapes
from emotalking.preprocess.pose.rigid import euler_angles

Sided = Float[np.ndarray, "N S"]
"""A measure over time: person's right and left side, or one column for what has no sides."""

CHUNK = 2000
"""Frames that are measured together."""
_CHEEKS = {"mediapipe478": ((50, 117, 118, 119), (280, 346, 347, 348))}
"""Cheek points (person's right, left) of the layouts that have any."""

_BLENDSHAPES = "mediapipe478"
"""Layout whose points the network of the blendshapes reads."""
_OUTER_BROW = 1.5
"""Weight of raised outer brows in a frown: it reads the brow lowerer of three takes of the actor best."""
_LOW_REST = {"frown": 30}
"""Measures that rest at a low percentile: what is only ever more than at rest has no densest half around it."""

USUAL: dict[str, tuple[float, float, int]] = {
    "inner_brow": (35.5, 6.0, 0),
    "outer_brow": (29.3, 5.6, 0),
    "brow_gap": (46.0, 1.8, -1),
    "upper_lid": (7.4, 1.1, 0),
    "lower_lid": (-3.5, 1.0, 1),
    "cheek": (-34.6, 2.2, 1),
    "wing": (-69.3, 3.9, 1),
    "nose_lip": (23.7, 3.5, -1),
    "corner": (0.8, 3.2, 0),
    "width": (78.5, 5.2, 1),
    "smile": (5.1, 4.0, 1),
    "gap": (2.9, 3.0, 1),
    "thick_upper": (11.2, 1.7, -1),
    "thick_lower": (16.0, 2.7, -1),
    "chin": (-181.0, 10.5, -1),
    "lower_lip": (54.3, 6.5, 1),
    "frown": (-2.0, 4.0, 1),
    "shrug": (0.2, 1.0, 1),
}
"""Mean and standard deviation of each measure over the resting faces of a dozen adults (MediaPipe's points), and which
way expressions move it (0: both): only that way a rest can be too far out to be one."""
_ODDEST = 1.2
"""A face whose rest lies further from the usual one than this many standard deviations is taken to make an expression
all the time (a constant smile), and the excess counts."""
_FULL_RANGE = {"inner_brow": 15.0, "outer_brow": 14.0}
"""Brows that move this far within a clip have shown where they rest, however high that is."""

_SPEECH = {"corner": 0.2, "smile": 0.14, "nose_lip": -0.14, "thick_upper": -0.05, "thick_lower": 0.07}
"""Change of a measure with the gap between the lips in speech (medians over a dozen talkers)."""
_SPEECH_GAP = 10.0
"""Lips open further in speech only rarely: what a wider gap moves is taken for expression."""
_JAW = {"lower_lip": -0.65}
"""The same, at any gap: the lower lip is between gap and chin."""

_NEAR = np.radians(20)
"""From this yaw on only the side of the face that is towards the camera is used."""
_SLOPE = 0.8
"""Usual error of a measure for ten degrees of yaw or pitch: landmark detectors bend with the head's pose."""
_SCATTER = 3.0
"""Usual size of real movement around rest, per independent observation (half a second)."""


def head_angles(viewmats: Float[np.ndarray, "N 4 4"]) -> Float[np.ndarray, "N 2"]:
    """Yaw (positive: the person's right side turns to the front) and pitch of the head in the camera, radians."""
    return euler_angles(viewmats)[:, :2]


def measure(head: Float[np.ndarray, "N K 3"], layout: FaceLayout) -> dict[str, Sided]:
    """The lengths of every frame; heights are from the line through the eyes' corners.

    Args:
        head: landmarks in the head frame, world units; memory stays flat when they are memory-mapped.
        layout: names the points.
    """
    parts = [_measure(head[begin : begin + CHUNK], layout) for begin in range(0, len(head), CHUNK)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _measure(head: np.ndarray, layout: FaceLayout) -> dict[str, np.ndarray]:
    x, y = head[..., 0] / EYE_DISTANCE * 100, head[..., 1] / EYE_DISTANCE * 100
    lids = (layout.right_upper_lid, layout.left_upper_lid)
    eye_line = np.mean([y[:, lid[end]] for lid in lids for end in (0, -1)], 0)
    point = layout.ibug68

    def height(right: tuple[int, ...], left: tuple[int, ...]) -> np.ndarray:
        return np.stack([y[:, list(right)].mean(1), y[:, list(left)].mean(1)], 1) - eye_line[:, None]

    def between(pairs: tuple[tuple[int, int], ...]) -> np.ndarray:
        return np.mean([y[:, point[a]] - y[:, point[b]] for a, b in pairs], 0)[:, None]

    gap = between(((61, 67), (62, 66), (63, 65)))
    # The lips' middle as if they touched: an open mouth must not lift its corners by itself.
    middle = (y[:, point[51]] + y[:, point[57]])[:, None] / 2 - eye_line[:, None]
    corner = height((point[48],), (point[54],)) - middle
    width = (x[:, point[54]] - x[:, point[48]])[:, None]
    out = {
        "inner_brow": height(layout.right_brow[-2:], layout.left_brow[-2:]),
        "outer_brow": height(layout.right_brow[:2], layout.left_brow[:2]),
        "brow_gap": (x[:, layout.left_brow[-1]] - x[:, layout.right_brow[-1]])[:, None],
        "upper_lid": height(_middle(layout.right_upper_lid), _middle(layout.left_upper_lid)),
        "lower_lid": height(_middle(layout.right_lower_lid), _middle(layout.left_lower_lid)),
        "wing": height((point[31],), (point[35],)),
        "nose_lip": between(((33, 51),)),
        "corner": corner,
        "width": width,
        "gap": gap,
        "thick_upper": between(((50, 61), (51, 62), (52, 63))),
        "thick_lower": between(((65, 56), (66, 57), (67, 58))),
        "chin": y[:, [point[8]]] - eye_line[:, None],
        "lower_lip": between(((57, 8),)),
    }
    if layout.name in _CHEEKS:
        out["cheek"] = height(*_CHEEKS[layout.name])
    # Corners up and apart and cheeks up, together: people differ less in this than in each.
    cheek = out["cheek"].mean(1, keepdims=True) if "cheek" in out else 0.0
    out["smile"] = 0.7 * corner.mean(1, keepdims=True) + 0.5 * width + cheek
    if layout.name == _BLENDSHAPES:
        out |= _read_blendshapes(head)
    return out


def _read_blendshapes(head: Float[np.ndarray, "N 478 3"]) -> dict[str, Sided]:
    """Frown, in log odds: brows lowered and their inner ends not raised; shrug: tenths of the lower lip's shrug.

    Raised outer brows lower the network's "browDown", and are added again. Read from the face turned to the front,
    which takes most of the head's pose out.
    """
    scores = read_blendshapes(head[..., :2] * np.array([1.0, -1.0])).astype(np.float64)

    def mean(stem: str, values: np.ndarray) -> np.ndarray:
        return values[:, [name.startswith(stem) for name in BLENDSHAPES]].mean(1, keepdims=True)

    odds = np.log(np.maximum(scores, 1e-9)) - np.log1p(-np.minimum(scores, 1 - 1e-6))
    frown = mean("browDown", odds) - mean("browInnerUp", odds) + _OUTER_BROW * mean("browOuterUp", odds)
    return {"frown": frown, "shrug": 10 * mean("mouthShrugLower", scores)}


@dataclass(frozen=True)
class Rest:
    """Measures of one person's face at rest by one detector, the reference of all other frames.

    What follows yaw and pitch is taken out first (only as far as the clip's range of poses shows it), then what follows
    the talking jaw. Rest is the middle of the shortest interval that holds half of the clip: the face that the person
    usually makes, whatever else it does. Where even that is far from a usual face, the person never rests, and the
    limit of what is usual takes its place.
    """

    angles: Float[np.ndarray, "2"]
    """The clip's median yaw and pitch, radians."""
    slopes: dict[str, Float[np.ndarray, "S 2"]]
    """Change of each side of a measure with ten degrees of yaw and of pitch."""
    places: dict[str, Float[np.ndarray, " S"]]
    """Value of each side of a measure at rest."""
    discounts: dict[str, float]
    """Part of a change that is discounted, with its sign (:func:`_rest_discount`)."""

    @classmethod
    def fit(
        cls, measures: dict[str, Sided], angles: Float[np.ndarray, "N 2"], layout: FaceLayout, fps: float | int
    ) -> "Rest":
        """The rest of the person in a clip.

        Args:
            measures: of :func:`measure`.
            angles: of :func:`head_angles`.
            layout: whose points were measured; :data:`USUAL` is known for MediaPipe's.
            fps: frame rate.
        """
        middle = np.median(angles, 0)
        turned = (angles - middle) / np.radians(10)
        slopes = {}
        places = {}
        discounts = {}
        for name, sides in measures.items():
            slopes[name] = np.stack([_slope(v, turned, fps) for v in sides.T])
            level = sides - turned @ slopes[name].T
            low = _LOW_REST.get(name)
            rest = np.array([_shortest_half(v) if low is None else np.percentile(v, low) for v in level.T])
            shift, discount = _rest_discount(name, rest, level) if layout.name == "mediapipe478" else (0.0, 0.0)
            places[name], discounts[name] = rest + shift, discount
        return cls(middle, slopes, places, discounts)

    def change(
        self, measures: dict[str, Sided], angles: Float[np.ndarray, "N 2"]
    ) -> dict[str, Float[np.ndarray, " N"]]:
        """Each measure's departure from this rest, both sides together, in any frames of the same person.

        Args:
            measures: of :func:`measure`.
            angles: of :func:`head_angles`.
        """
        turned = (angles - self.angles) / np.radians(10)
        right = np.clip(0.5 + angles[:, 0] / (2 * _NEAR), 0, 1)
        side_weight = np.stack([right, 1 - right], 1)
        out = {}
        for name, sides in measures.items():
            change = sides - turned @ self.slopes[name].T - self.places[name]
            discount = self.discounts[name]
            change = np.where(
                change * discount > 0, np.sign(discount) * np.maximum(np.abs(change) - abs(discount), 0), change
            )
            out[name] = change[:, 0] if change.shape[1] == 1 else (change * side_weight).sum(1)
        talking = np.clip(out["gap"], 0, _SPEECH_GAP)
        for name in _SPEECH:
            out[name] = out[name] - _SPEECH[name] * talking
        for name in _JAW:
            out[name] = out[name] - _JAW[name] * out["gap"]
        return out


def _rest_discount(name: str, rest: np.ndarray, sides: np.ndarray) -> tuple[float, float]:
    """Correction of a rest that no resting face has, and the part of a change in that direction that is discounted."""
    mean, spread, way = USUAL[name]
    centre = float(rest.mean())
    low = -np.inf if way > 0 else mean - _ODDEST * spread
    high = np.inf if way < 0 else mean + _ODDEST * spread
    beyond = float(np.clip(centre, low, high)) - centre
    if name not in _FULL_RANGE:
        return beyond, 0.0
    moves = float(np.ptp(np.percentile(sides.mean(1), [3, 97]))) / _FULL_RANGE[name]
    # Brows that are mostly raised, and fall, are not a frown.
    return beyond * float(np.clip(1.5 - moves, 0, 1)), 3 * beyond * float(np.clip(moves - 0.5, 0, 1))


def _middle(lid: tuple[int, ...]) -> tuple[int, ...]:
    """The points of a lid that are well away from its corners."""
    return lid[1:-1] if len(lid) < 6 else lid[2:-2]


def _shortest_half(values: np.ndarray) -> float:
    """Mean of the densest half of the values."""
    order = np.sort(values)
    half = len(order) // 2
    begin = int((order[half:] - order[: len(order) - half]).argmin())
    return float(order[begin : begin + half + 1].mean())


def _slope(values: np.ndarray, turned: np.ndarray, fps: float | int) -> np.ndarray:
    """The part that is linear in the head's angles, robustly, and shrunk as far as the clip is short or still.

    Least squares with Huber weights and a prior: a clip of ``n`` independent observations tells as much about the slope
    as the scatter of real movement allows.
    """
    observations = max(len(values) / fps * 2, 1.0)
    slope = np.zeros(2)
    for _ in range(6):
        rest = values - turned @ slope
        rest = rest - np.median(rest)
        weight = (
            np.minimum(1.0, 1.5 * _SCATTER / np.maximum(np.abs(rest), 1e-9)) * observations / len(values) / _SCATTER**2
        )
        mean = (weight @ values) / weight.sum()
        centred = turned - (weight @ turned) / weight.sum()
        normal = (centred * weight[:, None]).T @ centred + np.eye(2) / _SLOPE**2
        slope = np.linalg.solve(normal, (centred * weight[:, None]).T @ (values - mean))
    return slope
