"""Landmarks, labels and normals of new images of a subject, such as generated faces."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from emotalking.data import Subject
from emotalking.data.labels import Label
from emotalking.errors import InputError
from emotalking.networks.face_normals import FaceNormals, estimate_normals
from emotalking.preprocess.action_units import head_points
from emotalking.preprocess.config import PARSINGS
from emotalking.preprocess.landmarks import LandmarkProvider, open_provider
from emotalking.preprocess.networks import NORMALS_PROVIDER, NetworkParsing
from emotalking.preprocess.normals import build_mesh, draw_normals
from emotalking.preprocess.parsing.parser import ClipParser, EmbeddedParsing, ParsingProvider

SAMPLES = 40
"""Frames of the clip from which the parser learns its colours."""


class SubjectReader:
    """Detects landmarks, labels and normals in new images of a subject, as ``prepare`` did in its clip.

    Each image on its own: landmarks as detected, masks not smoothed over time.
    """

    def __init__(
        self,
        subject: Subject,
        provider: LandmarkProvider,
        parser: ClipParser,
        normals_network: torch.nn.Module | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """Read with these.

        Args:
            subject: of the images.
            provider: finds the points of the subject's layout.
            parser: fitted to the subject's clip.
            normals_network: estimates normals, on ``device``; None: they come from the mesh through the landmarks.
            device: of that network.

        Raises:
            InputError: if the folder lacks the shape of the face, or its landmarks are another detector's.
        """
        track = subject.landmarks
        if track.shape is None or track.layout.name != provider.layout.name:
            raise InputError(
                f"{subject.files.root} was not prepared with landmarks of {provider.layout.name}, which reading"
                " generated faces needs: prepare it again with 'emotalking prepare'."
            )
        self._shape = np.asarray(track.shape, np.float64)
        self._mesh = build_mesh(self._shape, track.layout)
        self._focal = float(subject.K[0, 0])
        self._provider = provider
        self._parser = parser
        self._normals_network = normals_network
        self._device = device
        self._ibug68 = list(track.layout.ibug68)

    @classmethod
    def open(cls, subject: Subject, device: torch.device | str = "cpu") -> "SubjectReader":
        """Open the parser and the normals method named in the folder, fitted to frames of the clip.

        Networks run on ``device``. A parser of another tool is replaced by the embedded one.

        Raises:
            InputError: a network that the folder was made with is missing; and as the constructor.
        """
        track, providers = subject.landmarks, subject.manifest.get("providers", {})
        usable = np.flatnonzero(track.detected & np.isfinite(track.points).all((1, 2)))
        chosen = usable[np.unique(np.linspace(0, len(usable) - 1, min(SAMPLES, len(usable))).round().astype(int))]
        images = [subject.original(int(index)) for index in chosen]
        parsing, normals_network = _networks(providers.get("masks", ""), providers.get("normals", ""), device)
        parser = parsing.fit(images, track.points[chosen], track.layout)
        return cls(subject, open_provider(), parser, normals_network, device)

    def landmarks(self, images: Float[Tensor, "B H W 3"]) -> Float[Tensor, "B K 2"]:
        """Detected points, pixels; NaN where no face was found."""
        missing = np.full((len(self._shape), 2), np.nan, np.float32)
        found = [self._provider.detect(image) for image in _bytes(images)]
        points = np.stack([missing if one is None else one[:, :2] for one in found])
        return torch.from_numpy(points).to(images)

    def labels(self, images: Float[Tensor, "B H W 3"], landmarks: Float[Tensor, "B K 2"]) -> UInt8[Tensor, "B H W"]:
        """Parsing; background everywhere where a landmark is not finite."""
        out = np.full(images.shape[:3], int(Label.BACKGROUND), np.uint8)
        points = landmarks.cpu().numpy().astype(np.float32)
        for row, image in enumerate(_bytes(images)):
            if np.isfinite(points[row]).all():
                out[row] = self._parser.decide(image, points[row], self._parser.scores(image, points[row])).labels
        return torch.from_numpy(out).to(images.device)

    def normals(
        self,
        images: Float[Tensor, "B H W 3"],
        landmarks: Float[Tensor, "B K 2"],
        labels: UInt8[Tensor, "B H W"],
        viewmats: Float[Tensor, "B 4 4"],
    ) -> Float[Tensor, "B H W 3"]:
        """Normals on the skin: by the network, or of the face's mesh drawn through the new landmarks.

        Assumption: each point of the mesh keeps the distance from the camera that it has in the neutral face; it
        cannot be measured in one image.
        """
        size = (images.shape[1], images.shape[2])
        out = np.zeros((*images.shape[:3], 3), np.float32)
        skins, points = (labels == Label.HEAD).cpu().numpy(), landmarks.double().cpu().numpy()
        for row, (image, viewmat) in enumerate(zip(_bytes(images), viewmats.double().cpu().numpy(), strict=True)):
            if not np.isfinite(points[row]).all():
                continue
            if self._normals_network is not None:
                place = points[row, self._ibug68][None]
                (normals,), _ = estimate_normals(self._normals_network, [image], place, self._device)
                out[row] = normals * skins[row][..., None]
                continue
            head = head_points(points[row, None], viewmat[None], self._focal, self._shape, size)[0]
            out[row] = draw_normals(self._mesh, head, viewmat, self._focal, size, skins[row])
        return torch.from_numpy(out).to(images)


def _networks(masks: str, normals: str, device: torch.device | str) -> tuple[ParsingProvider, torch.nn.Module | None]:
    """Parser and normals network by their names in ``subject.json``."""
    parsing = NetworkParsing.open(masks, device) if PARSINGS.get(masks) else EmbeddedParsing()
    return parsing, FaceNormals.open().to(device) if normals == NORMALS_PROVIDER else None


def _bytes(images: Float[Tensor, "B H W 3"]) -> Iterator[np.ndarray]:
    """One image after the other, uint8."""
    for image in images:
        yield (image.clamp(0, 1) * 255).round().byte().cpu().numpy()
