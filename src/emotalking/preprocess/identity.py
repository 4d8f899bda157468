"""Whether two clips show one person: by dlib's recogniser where it is installed, else coarsely by the face's shape.

Measured on clips of 22 people, ten frames each: dlib's mean vectors of one person in two clips are at most .35 apart
(two moods, two rooms), those of strangers at least .47. Shapes (rigid landmarks, root mean square in eye distances) of
one person differ by at most .034, mostly .009, and those of strangers by .038 at the median and .013 at the least.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from emotalking.data import Subject
from emotalking.data.layouts import EYE_DISTANCE
from emotalking.errors import InputError
from emotalking.io.display import to_rgb
from emotalking.io.video import View, decode_frames
from emotalking.networks.face_recogniser import FaceRecogniser
from emotalking.ops.geometry import fit_similarity
from emotalking.preprocess.landmarks import open_provider
from emotalking.preprocess.pose import rigid

FACES = 10
"""Faces that are compared of each clip."""
STEP_S = 0.4
"""Seconds between them."""
SEARCHED = 60
"""Frames at most in which they are searched."""
STRANGER = 0.45
"""Distance of dlib's mean vectors from which two clips show two people."""
ODD_SHAPE = 0.035
"""Difference of shapes from which they may."""


@dataclass(frozen=True)
class Faces:
    """A person's face in some frames."""

    shape: Float[np.ndarray, "K 3"]
    """Mean of the detector's points in the head frame."""
    vector: Float[np.ndarray, "128"] | None
    """Mean of dlib's vectors; None where it is not installed."""

    @classmethod
    def of(cls, images: Iterable[UInt8[np.ndarray, "H W 3"]]) -> "Faces | None":
        """Faces of one person in images of one size; None where none shows a face."""
        try:
            recogniser = FaceRecogniser()
        except InputError:
            recogniser = None
        provider = open_provider()
        points = []
        vectors = []
        size = (1, 1)
        for _, image in zip(range(SEARCHED), images, strict=False):
            found = provider.detect(image)
            if found is None:
                continue
            size = image.shape[:2]
            points.append(found)
            if recogniser is not None:
                ibug = found[list(provider.layout.ibug68), :2].astype(np.float64)
                vectors.append(recogniser.describe(image, ibug))
            if len(points) == FACES:
                break
        if not points:
            return None
        found = np.stack(points).astype(np.float64)
        seen = np.ones(len(found), bool)
        start = rigid.start(found[..., :2], found[..., 2], seen, provider.layout, (size[0], size[1]), 2.2)
        return cls(start.shape[list(provider.layout.rigid)], np.mean(vectors, 0) if vectors else None)

    @classmethod
    def of_clip(cls, clip: str | Path, turn: int = 0) -> "Faces | None":
        """Faces of a clip.

        Raises:
            InputError: the video cannot be read.
        """
        return cls.of(_every(clip, turn))

    @classmethod
    def of_subject(cls, subject: Subject) -> "Faces | None":
        """Faces of a prepared clip."""
        chosen = np.linspace(0, subject.num_frames - 1, min(FACES, subject.num_frames)).round().astype(int)
        return cls.of(subject.original(int(index)) for index in chosen)


def _every(clip: str | Path, turn: int) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    due = -np.inf
    for time, frame in decode_frames(clip, view=View(turn=turn)):
        if time >= due:
            due = time + STEP_S
            yield to_rgb(frame)


@dataclass(frozen=True)
class Likeness:
    """Result of :func:`compare`."""

    stranger: bool
    """Another person, as far as dlib tells."""
    doubt: str
    """Sentence for the user; empty where nothing speaks against one person."""
    facts: dict[str, float | str]
    """Record."""


def compare(main: Faces | None, other: Faces | None) -> Likeness:
    """Compare the person of a clip with that of the main one."""
    if main is None or other is None:
        return Likeness(False, "", {"compared_by": "nothing: no face was found"})
    if main.vector is not None and other.vector is not None:
        distance = float(np.linalg.norm(main.vector - other.vector))
        facts: dict[str, float | str] = {"compared_by": FaceRecogniser.name, "distance": round(distance, 3)}
        if distance > STRANGER:
            doubt = f"it shows another person (distance of the faces {distance:.2f}, one person's are below {STRANGER})"
            return Likeness(True, doubt, facts)
        return Likeness(False, "", facts)
    scale, rotation, offset = fit_similarity(main.shape, other.shape)
    away = other.shape - (scale * main.shape @ rotation.T + offset)
    difference = float(np.sqrt((away**2).sum(-1).mean())) / EYE_DISTANCE
    doubt = ""
    if difference > ODD_SHAPE:
        doubt = (
            f"the face has another shape (by {100 * difference:.1f} % of the distance of the eyes): is it the same "
            "person? The extra emotalking[identity] tells more surely"
        )
    return Likeness(False, doubt, {"compared_by": "face shape", "distance": round(difference, 4)})
