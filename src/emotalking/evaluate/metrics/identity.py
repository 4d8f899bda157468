"""Identity: is it still the same person, by a face recogniser."""

import numpy as np
from jaxtyping import Float

from emotalking.evaluate.metrics.base import Metric, MetricSpec, missing, per_frame, register, single
from emotalking.evaluate.observation import Observation


def identity_similarity(faces: Float[np.ndarray, "N D"], person: Float[np.ndarray, " D"]) -> Float[np.ndarray, " N"]:
    """One less the Euclidean distance of each face's vector from the person's; 1: the very same face.

    Not a cosine: vectors of dlib's network all point to one side, and cosines between strangers lie near .9. Its
    author's limit for two images of one person is a distance of .6, a similarity of .4; a mean over many images
    lies nearer to each of them than they lie to each other.
    """
    return 1.0 - np.linalg.norm(faces - person, axis=-1)


def _identity(name: str, run: Observation) -> Metric:
    assert run.person is not None and run.models.identity is not None
    vectors = run.faces.descriptions.get("identity")
    similar = np.full(run.count, np.nan) if vectors is None else identity_similarity(vectors, run.person.vector)
    wanted = np.arange(run.count) % run.identity_stride == 0
    return per_frame(name, similar, run.models.identity.name, wanted)


def _own_identity(name: str, run: Observation) -> Metric:
    person, model = run.person, run.models.identity
    assert person is not None and model is not None
    if len(person.held_out) == 0:
        return missing(name, "no held-out frame of the recording shows a face", person.missed)
    similar = identity_similarity(person.held_out, person.vector)
    return single(name, float(similar.mean()), model.name, len(similar), person.missed)


register(
    "identity",
    MetricSpec(
        "identity",
        better="higher",
        measure=_identity,
        needs=("faces", "identity"),
        undefined="no frame that was looked at shows a face",
        of_recording=True,
    ),
)
register(
    "identity_truth",
    MetricSpec(
        "identity of the recording's other frames",
        measure=_own_identity,
        needs=("faces", "identity"),
        reference=True,
    ),
)
