"""Analysis of new images of a subject: missing faces, labels, normals of the neutral face."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from emotalking.data import Subject
from emotalking.data.labels import Label, Masks
from emotalking.data.layouts import IBUG68, FaceLayout
from emotalking.errors import InputError
from emotalking.faces import reader as face_reader
from emotalking.faces.reader import SubjectReader
from emotalking.preprocess.networks import NORMALS_PROVIDER
from emotalking.preprocess.normals import build_mesh, draw_normals


class Detector:
    """Finds the subject's points one pixel to the right; no face in a black image."""

    name = "known"

    def __init__(self, points: np.ndarray, layout: FaceLayout) -> None:
        self.points, self.layout = points, layout

    def detect(self, image: np.ndarray) -> np.ndarray | None:
        """See ``LandmarkProvider``."""
        if not image.any():
            return None
        return np.pad(self.points + np.array([1, 0]), ((0, 0), (0, 1))).astype(np.float32)

    def detect_many(self, images: Sequence[np.ndarray]) -> list[np.ndarray | None]:
        """See ``LandmarkProvider``."""
        return [self.detect(image) for image in images]

    def close(self) -> None:
        """See ``LandmarkProvider``."""


class Halves:
    """Calls what is right of the first landmark a head."""

    def scores(self, image: np.ndarray, points: np.ndarray) -> np.ndarray:
        """See ``ClipParser``."""
        return np.full((4, 4, 1), points[0, 0], np.float32)

    def decide(self, image: np.ndarray, points: np.ndarray, scores: np.ndarray) -> Masks:
        """See ``ClipParser``."""
        right = np.arange(image.shape[1]) > scores[0, 0, 0]
        labels = np.where(right, int(Label.HEAD), int(Label.HAIR)).astype(np.uint8)
        return Masks(np.broadcast_to(labels, image.shape[:2]).copy(), np.zeros(image.shape[:2], bool))


def test_reading(actor_subject: Subject) -> None:
    track = actor_subject.landmarks
    reader = SubjectReader(actor_subject, Detector(track.points[0], track.layout), Halves())
    height, width = actor_subject.original(0).shape[:2]
    images = torch.rand(2, height, width, 3)
    images[1] = 0
    found = reader.landmarks(images)
    torch.testing.assert_close(found[0], torch.from_numpy(track.points[0] + [1, 0]).float())
    assert found[1].isnan().all()
    labels = reader.labels(images, found)
    edge = int(found[0, 0, 0]) + 1
    assert (labels[0, :, edge:] == Label.HEAD).all() and (labels[0, :, :edge] == Label.HAIR).all()
    assert (labels[1] == Label.BACKGROUND).all()


def test_normals_are_those_of_the_neutral_face(actor_subject: Subject) -> None:
    track, K = actor_subject.landmarks, actor_subject.K
    reader = SubjectReader(actor_subject, Detector(track.points[0], track.layout), Halves())
    assert track.shape is not None
    height, width = actor_subject.original(0).shape[:2]
    viewmats = torch.from_numpy(np.asarray(actor_subject.viewmats[:2])).float()
    camera = track.shape @ viewmats[0, :3, :3].numpy().T + viewmats[0, :3, 3].numpy()
    points = camera[:, :2] / camera[:, 2:] * K[0, 0] + np.array([width / 2, height / 2])
    landmarks = torch.stack([torch.from_numpy(points).float(), torch.full((len(points), 2), torch.nan)])
    labels = torch.full((2, height, width), int(Label.HEAD), dtype=torch.uint8)
    labels[:, :, : width // 2] = int(Label.HAIR)
    normals = reader.normals(torch.rand(2, height, width, 3), landmarks, labels, viewmats)
    mesh = build_mesh(track.shape, track.layout)
    wanted = draw_normals(mesh, track.shape, viewmats[0].double().numpy(), float(K[0, 0]), (height, width))
    right = torch.from_numpy(wanted[:, width // 2 :])
    assert right.norm(dim=2).sum() > 100
    torch.testing.assert_close(normals[0, :, width // 2 :], right, atol=1e-4, rtol=0)
    assert (normals[0, :, : width // 2] == 0).all() and (normals[1] == 0).all()


def test_a_subject_is_read_by_the_networks_it_was_prepared_with(
    actor_subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slope(torch.nn.Module):
        """Says the same of every pixel: a surface that looks at the camera and to the left."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tensor([-0.6, 0.0, 0.8]).view(1, 3, 1, 1).expand(len(x), 3, *x.shape[2:])

    track, asked = actor_subject.landmarks, []
    known = Detector(track.points[0], track.layout)
    monkeypatch.setattr(face_reader, "open_provider", lambda: known)
    monkeypatch.setattr(face_reader.FaceNormals, "open", Slope)
    monkeypatch.setattr(
        "emotalking.preprocess.networks.NetworkParsing.open", lambda choice, device: asked.append(choice) or Fitted()
    )

    class Fitted:
        name = "fitted"

        def fit(self, *_: object) -> Halves:
            return Halves()

    before = actor_subject.manifest.get("providers", {})
    actor_subject.manifest["providers"] = {"masks": "bisenet", "normals": NORMALS_PROVIDER}
    try:
        reader = SubjectReader.open(actor_subject)
    finally:
        actor_subject.manifest["providers"] = before
    assert asked == ["bisenet"]
    image = torch.from_numpy(actor_subject.original(0)).float()[None] / 255
    labels = torch.full(image.shape[:3], int(Label.HEAD), dtype=torch.uint8)
    labels[:, : image.shape[1] // 2] = int(Label.HAIR)
    points, viewmats = torch.from_numpy(track.points[:1]).float(), torch.eye(4)[None]
    normals = reader.normals(image, points, labels, viewmats)
    assert (normals[0, : image.shape[1] // 2] == 0).all()
    seen = normals[0][normals[0].norm(dim=-1) > 0]
    assert len(seen) > 200 and (seen[:, 2] < -0.7).all() and (seen[:, 0].abs() > 0.5).all()


def test_another_detectors_landmarks_are_refused(actor_subject: Subject) -> None:
    with pytest.raises(InputError, match="landmarks of ibug68"):
        SubjectReader(actor_subject, Detector(np.zeros((68, 2)), IBUG68), Halves())
