"""Judges of expressions fitted to acted clips alone: none has seen an image that this package made.

Four kinds, on measurements that share little. Targets and losses were made while looking at the first two; the others
were added after, were never tuned on, and are the ones to report (`HELD_OUT`):
- "blendshapes": ridge regression from MediaPipe's 52 scores to the places of the emotions (faces.FittedJudge); its
  class is the nearest place.
- "landmarks": a linear discriminant on distances of the face mesh (brows, lids, cheeks, lips, chin; no scores). Between
  frames of one class people differ too: the covariance is that of talking plus that of resting faces. Its valence and
  arousal are the places of the classes, weighted by their probabilities.
- "gradients": the same discriminant on principal components of what eyes, brows and mouth look like (_appearance.py).
- "network": a classifier that others trained on photographs of thousands of people (_appearance.py), as it is; of its
  probabilities valence and arousal are read in the same way. Acted clips enter only as its ceiling.

All read a person's change from the own neutral face (:func:`from_neutral`), added to the mean face at rest, so that
looks are not taken for moods. Acted clips, which show no neutral face, are read as they are.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol, get_type_hints

import numpy as np
from _appearance import GRADIENTS, NETWORK_CLASSES, Observe
from _expressive import BlendshapeReader, Expressive, frontal, in_head_frame, read_clip
from estimator_error import ACTED
from expression_bases import PLACES, symmetric

from emotalking.emotion.circumplex import PRESETS
from emotalking.evaluate.evaluation_models import CIRCUMPLEX_CLASSES
from emotalking.io.arrays import load_archive
from emotalking.preprocess.blendshapes import BLENDSHAPES
from emotalking.progress import track
from faces import FittedJudge

SEEN: dict[str, dict[str, tuple[tuple[int, int], ...]]] = {
    "furious2": {"happy": ((0, 10**6),)},  # a man who beams
    "sweep_d10": {
        "surprise": ((10, 15), (92, 112)),
        "happy": ((34, 48), (156, 216)),
        "fear": ((288, 332), (344, 376)),
        "anger": ((384, 447),),
    },
    "sweep_d19": {"happy": ((82, 98),), "sad": ((118, 134),)},
    "sweep_d3": {"sad": ((81, 153), (180, 207)), "anger": ((225, 275),), "surprise": ((297, 330),)},
    "sweep_d8": {"happy": ((77, 87), (203, 227)), "anger": ((105, 135),)},
    "sweep_d9": {"happy": ((304, 360),), "surprise": ((464, 484), (508, 516))},
}
"""What clips without a (true) name show, by eye: words of file names, classes, first and last frames."""
CLASSES = tuple(CIRCUMPLEX_CLASSES)
CENTRES = np.array([PRESETS[name] for name in CIRCUMPLEX_CLASSES.values()])
"""Valence and arousal of the classes [C, 2]."""
KEPT = [not name.startswith(("eyeLook", "_")) for name in BLENDSHAPES]
"""Blendshapes without those of the gaze."""
UPPER_LIP, LOWER_LIP, UPPER_LID, LOWER_LID = (13, 312, 82), (14, 317, 87), (159, 386), (145, 374)
CORNERS = (61, 291)
WINDOW = 12
"""Frames that are read together: talking is taken out by their mean."""
AWAY = np.array([1, 1, -1])
"""Turns depth around."""
SHRINK = 0.3
"""Share of the discriminant's covariance that is spherical."""
COMPONENTS = 24
"""Principal components of the gradients."""
SOFT = 3.0
"""Divisor of log-probabilities before classes are weighted: measures of one face are no independent evidence."""


def measures(points: np.ndarray, face: np.ndarray) -> np.ndarray:
    """[N, 478, 3] points in the head frame -> [N, M] places against ``face`` [478, 3], and gaps of lids and lips."""
    moves = symmetric(points - face, face)
    places = [moves[:, list(ids)].mean(1)[:, :2] for ids in PLACES.values()]

    def gap(upper: tuple[int, ...], lower: tuple[int, ...]) -> np.ndarray:
        return (points[:, list(lower), 1] - points[:, list(upper), 1]).mean(1, keepdims=True)

    width = np.abs(np.diff(points[:, list(CORNERS), 0], axis=1))
    lift = (points[:, [*UPPER_LIP, *LOWER_LIP], 1].mean(1) - points[:, list(CORNERS), 1].mean(1))[:, None]
    return np.concatenate([*places, gap(UPPER_LIP, LOWER_LIP), gap(UPPER_LID, LOWER_LID), width, lift], 1)


@dataclass
class Look:
    """What judges are shown of one frame sequence."""

    blend: np.ndarray
    """[N, 43]"""
    points: np.ndarray
    """[N, 478, 3] in the head frame."""
    seen: np.ndarray
    """[N, S] what the images look like; S is 0 where nothing observed them."""

    @classmethod
    def of(cls, clip: Expressive) -> "Look":
        """Of a whole clip."""
        return cls(clip.blend[:, KEPT], clip.points, clip.seen)

    @property
    def parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All measurements."""
        return self.blend, self.points, self.seen

    def __getitem__(self, rows: Any) -> "Look":
        return Look(*(values[rows] for values in self.parts))

    def windows(self) -> "Look":
        """Means over neighbours."""
        count = max(len(self.blend) // WINDOW, 1)
        parts = [np.array_split(values, count) for values in self.parts]
        return Look(*(np.stack([np.nanmean(part, 0) for part in values]) for values in parts))


class Judge(Protocol):
    """Reads [N] looks."""

    def __call__(self, look: Look) -> tuple[np.ndarray, np.ndarray]:
        """Valence and arousal [N, 2], class scores [N, C]."""
        ...


@dataclass
class BlendshapeJudge:
    """See the module."""

    ridge: FittedJudge

    @classmethod
    def fit(cls, acted: list[tuple[Look, str]], rest: list[Look]) -> "BlendshapeJudge":
        places = dict(zip(CLASSES, CENTRES, strict=True))
        rows = [(look.blend, tuple(places[label])) for look, label in acted]
        return cls(FittedJudge.fit(rows + [(look.blend, (0.0, 0.0)) for look in rest]))

    def __call__(self, look: Look) -> tuple[np.ndarray, np.ndarray]:
        va = self.ridge(look.blend)
        return va, -np.linalg.norm(va[:, None] - CENTRES, axis=-1)


@dataclass
class Discriminant:
    """Linear discriminant of classes whose frames spread alike; probabilities place them on the circumplex."""

    means: np.ndarray
    """[C, M]"""
    inverse: np.ndarray
    """[M, M]"""

    @classmethod
    def fit(cls, acted: list[tuple[np.ndarray, str]], rest: list[np.ndarray]) -> "Discriminant":
        """From measures [N, M] of people who act, and who just talk."""
        rows = acted + [(values, "neutral") for values in rest]
        means = np.stack([np.mean([v.mean(0) for v, label in rows if label == name], 0) for name in CLASSES])
        within = np.mean([np.cov(values.T) for values, _ in rows if len(values) > 2], 0)
        people = np.cov(np.stack([values.mean(0) for values in rest]).T)
        scatter = within + people
        scatter = (1 - SHRINK) * scatter + SHRINK * np.trace(scatter) / len(scatter) * np.eye(len(scatter))
        return cls(means, np.linalg.inv(scatter))

    def __call__(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        away = values[:, None] - self.means
        scores = -0.5 * np.einsum("ncm,mk,nck->nc", away, self.inverse, away)
        return softmax(scores / SOFT) @ CENTRES, scores


def softmax(scores: np.ndarray) -> np.ndarray:
    """Along the last axis."""
    odds = np.exp(scores - scores.max(-1, keepdims=True))
    return odds / odds.sum(-1, keepdims=True)


@dataclass
class LandmarkJudge:
    """See the module."""

    face: np.ndarray
    discriminant: Discriminant

    @classmethod
    def fit(cls, acted: list[tuple[Look, str]], rest: list[Look]) -> "LandmarkJudge":
        face = np.mean([look.points.mean(0) for look in rest], 0)
        rows = [(measures(look.points, face), label) for look, label in acted]
        return cls(face, Discriminant.fit(rows, [measures(look.points, face) for look in rest]))

    def __call__(self, look: Look) -> tuple[np.ndarray, np.ndarray]:
        return self.discriminant(measures(look.points, self.face))


@dataclass
class GradientJudge:
    """See the module."""

    mean: np.ndarray
    axes: np.ndarray
    """[GRADIENTS, M]"""
    discriminant: Discriminant

    @classmethod
    def fit(cls, acted: list[tuple[Look, str]], rest: list[Look]) -> "GradientJudge":
        clips = [look.seen[:, :GRADIENTS] for look in (*(look for look, _ in acted), *rest)]
        mean = np.mean([values.mean(0) for values in clips], 0)
        # Every clip weighs the same.
        spread = np.concatenate([(values - mean) / np.sqrt(len(values)) for values in clips])
        axes = np.linalg.svd(spread, full_matrices=False)[2][:COMPONENTS].T
        rows = [((look.seen[:, :GRADIENTS] - mean) @ axes, label) for look, label in acted]
        calm = [(look.seen[:, :GRADIENTS] - mean) @ axes for look in rest]
        return cls(mean, axes, Discriminant.fit(rows, calm))

    def __call__(self, look: Look) -> tuple[np.ndarray, np.ndarray]:
        return self.discriminant((look.seen[:, :GRADIENTS] - self.mean) @ self.axes)


@dataclass
class NetworkJudge:
    """See the module."""

    @classmethod
    def fit(cls, acted: list[tuple[Look, str]], rest: list[Look]) -> "NetworkJudge":
        """Nothing to fit."""
        del acted, rest
        return cls()

    def __call__(self, look: Look) -> tuple[np.ndarray, np.ndarray]:
        scores = look.seen[:, [GRADIENTS + NETWORK_CLASSES.index(name) for name in CLASSES]]
        return softmax(scores) @ CENTRES, scores


JUDGES: dict[str, Callable[[list[tuple[Look, str]], list[Look]], Judge]] = {
    "blendshapes": BlendshapeJudge.fit,
    "landmarks": LandmarkJudge.fit,
    "gradients": GradientJudge.fit,
    "network": NetworkJudge.fit,
}
HELD_OUT = ("gradients", "network")
"""Judges that nothing was tuned on."""


@dataclass
class Bench:
    """All judges, the mean face at rest, and what they make of the acted clips themselves."""

    judges: dict[str, Judge]
    rest: Look
    """[1]"""
    ceiling: dict[str, Any] = field(default_factory=dict)
    amplitudes: dict[str, Any] = field(default_factory=dict)
    """Of every class: mean and spread over people of each measure against the mean face at rest, out and down."""

    def read(self, look: Look, neutral: Look) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """All judges' readings of a person, whose own neutral frames are given and are read as the origin."""
        shown, plain = (from_neutral(one, neutral, self.rest) for one in (look, neutral.windows()))
        out = {}
        for name, judge in self.judges.items():
            va, scores = judge(shown)
            out[name] = va - np.nanmean(judge(plain)[0], 0), scores
        return out


def save(path: Path, bench: Bench) -> None:
    """Write a fitted bench, for machines without the clips."""
    arrays = _arrays(bench.rest, "rest.")
    for name, judge in bench.judges.items():
        arrays |= _arrays(judge, f"{name}.")
    said = json.dumps({"judges": list(bench.judges), "ceiling": bench.ceiling, "amplitudes": bench.amplitudes})
    np.savez_compressed(path, allow_pickle=False, said=np.array(said), **arrays)


def load(path: Path, *, network: bool) -> Bench:
    """Inverse of :func:`save`; without the network judge where its ``network`` is not there."""
    arrays = load_archive(path)
    said = json.loads(str(arrays["said"]))
    if not network:
        said["judges"] = [name for name in said["judges"] if name != "network"]
        arrays["rest.seen"] = arrays["rest.seen"][:, :GRADIENTS]
    kinds = {name: JUDGES[name].__self__ for name in said["judges"]}  # pyright: ignore[reportFunctionMemberAccess]
    judges = {name: _rebuilt(kind, arrays, f"{name}.") for name, kind in kinds.items()}
    return Bench(judges, _rebuilt(Look, arrays, "rest."), said["ceiling"], said["amplitudes"])


def _arrays(part: Any, prefix: str) -> dict[str, np.ndarray]:
    """Arrays of a dataclass and of those in it, by dotted names."""
    out: dict[str, np.ndarray] = {}
    for one in fields(part):
        value = getattr(part, one.name)
        out |= {prefix + one.name: value} if isinstance(value, np.ndarray) else _arrays(value, f"{prefix}{one.name}.")
    return out


def _rebuilt(kind: type, arrays: dict[str, np.ndarray], prefix: str) -> Any:
    hints = get_type_hints(kind)
    values = {
        one.name: arrays[prefix + one.name]
        if prefix + one.name in arrays
        else _rebuilt(hints[one.name], arrays, f"{prefix}{one.name}.")
        for one in fields(kind)
    }
    return kind(**values)


def from_neutral(look: Look, neutral: Look, rest: Look) -> Look:
    """The change from the own neutral face, on the mean face at rest."""
    sets = zip(look.parts, neutral.parts, rest.parts, strict=True)
    return Look(*(values - np.nanmean(own, 0) + mean for values, own, mean in sets))


@dataclass(frozen=True)
class Acted:
    """One person's one expression."""

    person: str
    label: str
    look: Look


def acted_looks(name: str, clip: Expressive, rest: Look) -> list[Acted]:
    """Everything that a clip shows; of a person who also rests, the change from rest."""
    whole = Look.of(clip)
    for word, classes in SEEN.items():
        if word in name:
            if "sweep" in name:
                whole = from_neutral(whole, whole[clip.rest], rest)
            frames = {
                label: np.concatenate([np.arange(a, min(b, len(whole.blend))) for a, b in spans])
                for label, spans in classes.items()
            }
            return [Acted(word, label, whole[rows].windows()) for label, rows in frames.items()]
    label = next((label for word, label in ACTED.items() if word in name), None)
    # The woman of these two clips is one person.
    person = "fear and surprise" if name.startswith(("mead_fear", "mead_surprised")) else name
    return [Acted(person, label, whole.windows())] if label in CLASSES else []


def amplitudes(shown: list[Acted], face: np.ndarray) -> dict[str, Any]:
    """How far people's emotions are from the mean face at rest, in eye-centre distances."""
    names = [f"{place} {axis}" for place in PLACES for axis in ("out", "down")]
    names += ["lips apart", "lids apart", "mouth width", "corner lift"]
    neutral = measures(face[None], face)[0]
    rows = {}
    for label in CLASSES[1:]:
        people = np.array([measures(one.look.points, face).mean(0) for one in shown if one.label == label]) - neutral
        pairs = zip(names, people.mean(0), people.std(0), strict=True)
        rows[label] = {"people": len(people)} | {n: [round(float(m), 4), round(float(s), 4)] for n, m, s in pairs}
    return rows


def fit(acted: Iterable[Path], neutral: Iterable[Path], read: Callable[[Path], Expressive] = read_clip) -> Bench:
    """The bench, its ceiling from people who were each left out of the fit."""
    clips = {path.stem: read(path) for path in track(sorted(acted), "acted clips")}
    rests = [Look.of(read(path)).windows() for path in neutral]
    rests += [Look.of(clip)[clip.rest].windows() for name, clip in clips.items() if "sweep" in name]
    means = zip(*([values.mean(0) for values in one.parts] for one in rests), strict=True)
    rest = Look(*(np.mean(people, 0)[None] for people in means))
    shown = [look for name, clip in clips.items() for look in acted_looks(name, clip, rest)]
    bench = Bench({}, rest, amplitudes=amplitudes(shown, rest.points[0]))
    for name, make in JUDGES.items():
        if rest.seen.shape[1] <= (GRADIENTS if name == "network" else 0 if name == "gradients" else -1):
            continue  # nothing was observed for it
        rows = []
        for one in shown:
            others = [(other.look, other.label) for other in shown if other.person != one.person]
            if not any(label == one.label for _, label in others):
                continue  # nobody else shows it
            va, scores = make(others, rests)(one.look)
            hit = float((scores.argmax(1) == CLASSES.index(one.label)).mean())
            rows.append({"label": one.label, "read": va.mean(0).round(3).tolist(), "top1": round(hit, 3)})
        truth = np.array([CENTRES[CLASSES.index(row["label"])] for row in rows])
        seen = np.array([row["read"] for row in rows])
        found = {f"{a}_r": float(np.corrcoef(seen[:, i], truth[:, i])[0, 1]) for i, a in enumerate("va")}
        found["top1"] = float(np.mean([row["top1"] for row in rows]))
        bench.ceiling[name] = found | {"clips": rows}
        bench.judges[name] = make([(one.look, one.label) for one in shown], rests)
    return bench


def look_at(images: Iterable[np.ndarray], reader: BlendshapeReader) -> Look:
    """Measure images of one person; nan without a face."""
    return observed(images, reader, None)[0]


def observed(
    images: Iterable[np.ndarray], reader: BlendshapeReader, observe: Observe | None
) -> tuple[Look, np.ndarray]:
    """As :func:`look_at`, with what ``observe`` sees, and the points in pixels [N, 478, 3]."""
    points, blend, seen = [], [], []
    for image in images:
        found = reader(image)
        points.append(np.full((478, 3), np.nan) if found is None else found[0])
        blend.append(np.full(52, np.nan) if found is None else found[1])
        if observe is not None and found is not None:
            seen.append(observe(image, found[0]))
    pixels = np.stack(points)
    good = np.isfinite(pixels).all((1, 2))
    model = frontal(pixels[good][0])
    for _ in range(2):
        model = frontal(np.median(in_head_frame(pixels[good] * AWAY, model), 0) * AWAY)
    placed = np.full(pixels.shape, np.nan)
    placed[good] = in_head_frame(pixels[good] * AWAY, model)
    looks = np.full((len(pixels), len(seen[0]) if seen else 0), np.nan)
    if seen:
        looks[good] = np.stack(seen)
    return Look(np.stack(blend)[:, KEPT], placed, looks), pixels
