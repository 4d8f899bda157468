"""A person as the main clip shows them: what further clips of the same person are measured against."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from emotalking.data import Subject
from emotalking.data.colours import FRAMES, ColourMatch, skin_colours
from emotalking.data.layouts import FaceLayout
from emotalking.errors import InputError
from emotalking.preprocess.action_units import head_points
from emotalking.preprocess.face_measures import Rest, head_angles, measure
from emotalking.preprocess.landmarks import MEDIAPIPE_LAYOUT


@dataclass(frozen=True)
class Person:
    """What stays the same in every clip of a person."""

    shape: Float[np.ndarray, "K 3"]
    """Neutral face in the subject's head frame."""
    focal_ratio: float
    """Focal length over the width of the frames."""
    rest: Rest
    """Face at rest, from which action units are measured."""
    neutral: Float[np.ndarray, "2"]
    """Valence and arousal that the estimator reads in the main clip (median): this person's neutral."""
    skin: Float[np.ndarray, "S 3"]
    """Colours of the main clip's skin (:func:`emotalking.data.colours.skin_colours`)."""
    width: int
    """Of the subject's frames, pixels; those of further clips are not larger."""
    key: str
    """Changes with any of these."""

    @classmethod
    def of(cls, subject: Subject) -> "Person":
        """The person of a prepared subject.

        Raises:
            InputError: the folder has no 478 tracked landmarks with a face shape, or no valence and arousal.
        """
        track = subject.landmarks
        emotion = subject.read_emotion
        root = subject.files.root
        if track.shape is None or track.layout.name != MEDIAPIPE_LAYOUT.name or emotion is None:
            raise InputError(
                f"{root} lacks a tracked face shape or va.csv, which clips of expressions are measured against: "
                "complete the folder with 'emotalking import'."
            )
        used = np.flatnonzero(track.detected)
        views, points = subject.viewmats[used].astype(np.float64), track.points[used].astype(np.float64)
        shape, size = track.shape.astype(np.float64), (subject.height, subject.width)
        head = head_points(points, views, subject.focal, shape, size)
        rest = Rest.fit(measure(head, track.layout), head_angles(views), track.layout, float(subject.fps))
        neutral = np.median(emotion[used].astype(np.float64), 0)
        ratio = subject.focal / subject.width
        skin = _skin(subject.original, track.detected, track.points, track.layout)
        facts = hashlib.sha256(f"{ratio} {subject.width} {subject.fps}".encode())
        for array in (shape, neutral, views, skin):
            facts.update(array.tobytes())
        return cls(shape, ratio, rest, neutral, skin, subject.width, facts.hexdigest()[:16])

    def colour_match(
        self, read: Callable[[int], np.ndarray], detected: Bool[np.ndarray, " N"], points: Float[np.ndarray, "N K 2"]
    ) -> ColourMatch:
        """What brings the frames of another clip to the main clip's colours; ``read`` gives a frame by its number."""
        skin = _skin(read, detected, points, MEDIAPIPE_LAYOUT)
        return ColourMatch.fit(skin, self.skin, self.shape, MEDIAPIPE_LAYOUT)


def _skin(
    read: Callable[[int], np.ndarray],
    detected: Bool[np.ndarray, " N"],
    points: Float[np.ndarray, "N K 2"],
    layout: FaceLayout,
) -> Float[np.ndarray, "S 3"]:
    """Colours of the skin in some frames with a face."""
    found = np.flatnonzero(detected)
    some = found[np.linspace(0, len(found) - 1, min(len(found), FRAMES)).round().astype(int)]
    return skin_colours((read(int(index)) for index in some), points[some], layout)
