"""Identity: known answers of the metric, what is looked at and counted, and dlib's network where it is installed."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from emotalking.data import Subject
from emotalking.evaluate import evaluation_models as models_module
from emotalking.evaluate.evaluation_models import EvaluationModels, IdentityModel
from emotalking.evaluate.measure import measure
from emotalking.evaluate.metrics import Metric
from emotalking.evaluate.metrics.identity import identity_similarity
from emotalking.io.display import to_rgb
from emotalking.io.video import decode_frames as decoded
from emotalking.networks import face_recogniser
from emotalking.networks.face_recogniser import FaceRecogniser
from emotalking.preprocess.landmarks import MEDIAPIPE_LAYOUT, MediaPipeMesh
from emotalking.testing.actor.actor import Actor, head_viewmat
from emotalking.testing.actor.state import ActorState
from emotalking.testing.actor.style import MAYA, OTTO, ROBIN, ActorStyle


class Anywhere:
    """Finds the actor's face in the middle of every image but black ones."""

    name = "anywhere"
    layout = MEDIAPIPE_LAYOUT

    def __init__(self, points: np.ndarray) -> None:
        self._points = points

    def detect(self, image: np.ndarray) -> np.ndarray | None:
        """The same points in every image that is not black."""
        return self._points if image.any() else None

    def detect_many(self, images: Sequence[np.ndarray]) -> list[np.ndarray | None]:
        """See ``LandmarkProvider``."""
        return [self.detect(image) for image in images]

    def close(self) -> None:
        """Nothing to free."""


class Shade(FaceRecogniser):
    """Knows people by their mean colour."""

    name = "shade"

    def __init__(self) -> None:
        self.looks = 0

    def describe(self, image: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Mean colour, 0..10."""
        self.looks += 1
        return image.reshape(-1, 3).mean(0) / 25.5


def mediapipe_points(states: list[ActorState], styles: list[ActorStyle]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images of actors, 192 pixels a side, and MediaPipe's points of each."""
    provider, out = MediaPipeMesh(), []
    for state, style in zip(states, styles, strict=True):
        image = Actor(style, 192).render(state).image
        found = provider.detect(image)
        assert found is not None
        out.append((image, found))
    provider.close()
    return out


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    """Landmarks of the actor of the subject's fixture."""
    return mediapipe_points([ActorState(viewmat=head_viewmat())], [ROBIN])[0][1] / 3


def judged(points: np.ndarray, frames: list[np.ndarray], subject: Subject) -> tuple[dict[str, Metric], Shade]:
    """Metrics in the eyes of who looks at shades."""
    shade = Shade()
    who = EvaluationModels(torch.device("cpu"), lambda: Anywhere(points), identity=IdentityModel(shade))
    return measure(frames, subject=subject, indices=None, models=who).metrics, shade


def test_similarity_is_one_less_the_distance() -> None:
    faces = np.array([[1.0, 0, 0], [1, 0.3, 0.4], [np.nan, 0, 0]])
    np.testing.assert_allclose(identity_similarity(faces, np.array([1.0, 0, 0])), [1, 0.5, np.nan])


def test_the_person_is_known_and_a_stranger_is_not(actor_subject: Subject, points: np.ndarray) -> None:
    own = [actor_subject.target(int(index)) for index in actor_subject.val_indices]
    found, _ = judged(points, own, actor_subject)
    assert found["identity"].model == "shade" and found["identity"].better == "higher"
    assert found["identity"].value == pytest.approx(1, abs=0.2)
    assert found["identity_truth"].value == pytest.approx(1, abs=0.2)
    assert found["identity_truth"].frames == len(own) and found["identity_truth"].better == "none"
    stranger, _ = judged(points, [255 - frame for frame in own], actor_subject)
    assert stranger["identity"].value < found["identity"].value - 0.3
    assert stranger["identity_truth"].value == found["identity_truth"].value


def test_every_fifth_frame_is_looked_at_and_missing_faces_are_counted(
    actor_subject: Subject, points: np.ndarray
) -> None:
    frames = [actor_subject.target(index).copy() for index in range(12)]
    frames[5][:] = frames[7][:] = 0
    found, shade = judged(points, frames, actor_subject)
    identity = found["identity"]
    assert (identity.frames, identity.missing) == (2, 1) and identity.per_frame is not None
    assert np.flatnonzero(~np.isnan(identity.per_frame)).tolist() == [0, 10]
    assert shade.looks == 2 + 16 + len(actor_subject.val_indices)
    blind, _ = judged(points, [np.zeros_like(frame) for frame in frames], actor_subject)
    assert math.isnan(blind["identity"].value) and "no face" in blind["identity"].reason


def test_a_person_is_met_once(actor_subject: Subject, points: np.ndarray) -> None:
    shade = Shade()
    model = IdentityModel(shade)
    first = model.person(actor_subject, Anywhere(points))
    looks = shade.looks
    assert model.person(actor_subject, Anywhere(points)) is first and shade.looks == looks


def test_without_the_extra_the_figure_says_which(
    actor_subject: Subject, points: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "dlib", None)
    models = EvaluationModels.open(lpips="none")
    assert models.identity is None and "emotalking[identity]" in models.no_identity
    models.landmarks, models.emotion = (lambda: Anywhere(points)), None
    found = measure([actor_subject.target(0)], subject=actor_subject, indices=None, models=models).metrics
    for name in ("identity", "identity_truth"):
        assert math.isnan(found[name].value) and "pip install 'emotalking[identity]'" in found[name].reason


def test_damaged_weights_end_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dlib", reason="the extra 'identity' (100 MB) is not installed")
    broken = tmp_path / face_recogniser.WEIGHTS
    broken.write_bytes(b"no network")
    monkeypatch.setattr(face_recogniser, "_weights", lambda: broken)
    model, why = models_module._open_recogniser()
    assert model is None and "is not whole" in why


def test_dlib_tells_the_actors_apart() -> None:
    """The same image is 1; the same actor otherwise posed is nearer than anybody else."""
    pytest.importorskip("dlib", reason="the extra 'identity' (100 MB) is not installed")
    rest = ActorState(viewmat=head_viewmat())
    images = mediapipe_points([rest, replace(rest, valence=0.7, arousal=0.3), rest, rest], [ROBIN, ROBIN, MAYA, OTTO])
    network, ibug = FaceRecogniser(), list(MEDIAPIPE_LAYOUT.ibug68)
    vectors = np.stack([network.describe(image, found[ibug, :2].astype(np.float64)) for image, found in images])
    again = network.describe(images[0][0], images[0][1][ibug, :2].astype(np.float64))
    alike = identity_similarity(np.stack([again, *vectors[1:]]), vectors[0])
    assert vectors.shape == (4, 128) and alike[0] == pytest.approx(1)
    # Measured: .81, .74, .49. The synthetic people have one head: real ones are further apart.
    assert alike[1] > 0.75 and alike[1] > alike[2] + 0.02 and alike[2] > alike[3]


@pytest.mark.realdata
def test_dlib_tells_people_apart(real_data: Path) -> None:
    """Across clips: frames of one person lie nearer to this person's mean than those of anybody else."""
    pytest.importorskip("dlib", reason="the extra 'identity' (100 MB) is not installed")
    network, people = FaceRecogniser(), {}
    for name in ("reporter_512_71s", "suit_256_60s", "address_450_20s", "flag_590_5s"):
        provider, found = MediaPipeMesh(), []
        for number, (_, frame) in enumerate(decoded(real_data / "clips" / f"{name}.mp4")):
            if number % 12:
                continue
            image = to_rgb(frame)
            points = provider.detect(image)
            if points is not None:
                found.append(network.describe(image, points[list(MEDIAPIPE_LAYOUT.ibug68), :2].astype(np.float64)))
            if len(found) == 8:
                break
        provider.close()
        people[name] = np.array(found)
    for name, faces in people.items():
        own = identity_similarity(faces[1::2], faces[::2].mean(0))
        others = [identity_similarity(faces, other[::2].mean(0)).max() for key, other in people.items() if key != name]
        assert own.min() > 0.6 and max(others) < 0.5, name
