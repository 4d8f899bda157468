"""Is it still the same person? Faces against the person's recording, in the eyes of a face recogniser."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from emotalking.data import Subject
from emotalking.networks.face_recogniser import FaceRecogniser
from emotalking.preprocess.landmarks import LandmarkProvider

LOOKS = 16
"""Frames of the recording, evenly spread, that tell what the person looks like; and as many that it is tried on."""
EVERY_S = 0.2
"""Seconds from one frame that is looked at to the next: who somebody is does not change faster, and the network is slow
(a tenth of a second a face on a CPU)."""


def identity_similarity(faces: Float[np.ndarray, "N D"], person: Float[np.ndarray, " D"]) -> Float[np.ndarray, " N"]:
    """One less the Euclidean distance of each face's vector from the person's; 1: the very same face.

    Not a cosine: vectors of dlib's network all point to one side, and cosines between strangers lie near .9. Its
    author's limit for two images of one person is a distance of .6, a similarity of .4; a mean over many images
    lies nearer to each of them than they lie to each other.
    """
    return 1.0 - np.linalg.norm(faces - person, axis=-1)


@dataclass(frozen=True)
class Person:
    """What a subject looks like to a recogniser."""

    vector: Float[np.ndarray, " D"]
    """Mean over :data:`LOOKS` training frames."""
    own: Float[np.ndarray, " n"]
    """Similarity of held-out frames of the recording: what the same person gets in other frames. May be empty."""
    missed: int
    """Of these, frames in which no face was found."""


@dataclass
class IdentityModel:
    """A recogniser, and the people whom it has met."""

    recogniser: FaceRecogniser
    _met: dict[str, Person | None] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As printed beside every metric."""
        return self.recogniser.name

    def person(self, subject: Subject, provider: LandmarkProvider) -> Person | None:
        """The subject's person, looked at once; None if no training frame shows a face.

        Args:
            provider: finds the faces.
        """
        place = str(subject.files.root)
        if place not in self._met:
            self._met[place] = self._meet(subject, provider)
        return self._met[place]

    def _meet(self, subject: Subject, provider: LandmarkProvider) -> Person | None:
        known, _ = self._faces(subject, subject.train_indices, provider)
        if not known:
            return None
        vector = np.mean(known, 0)
        others, missed = self._faces(subject, subject.val_indices, provider)
        return Person(vector, identity_similarity(np.array(others).reshape(-1, len(vector)), vector), missed)

    def _faces(
        self, subject: Subject, frames: Int[np.ndarray, " N"], provider: LandmarkProvider
    ) -> tuple[list[Float[np.ndarray, " D"]], int]:
        """Vectors of at most :data:`LOOKS` of these frames, and in how many no face was found."""
        places = np.unique(np.linspace(0, max(len(frames) - 1, 0), min(LOOKS, len(frames))).round().astype(int))
        out, missed = [], 0
        for index in frames[places]:
            image = subject.target(int(index))
            face = provider.detect(image)
            if face is None:
                missed += 1
                continue
            points = face[list(provider.layout.ibug68), :2].astype(np.float64)
            out.append(self.recogniser.describe(image, points))
        return out, missed
