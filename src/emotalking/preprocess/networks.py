"""Optional pretrained models (package ``networks``) in place of the embedded methods, on the same inputs and files."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float32, Shaped, UInt8

from emotalking.data import writer as write
from emotalking.data.files import SubjectFiles
from emotalking.data.labels import Label, Masks
from emotalking.data.layouts import FaceLayout
from emotalking.data.readers import read_masks
from emotalking.networks.bisenet import BiSeNet, label_scores, part_scores
from emotalking.networks.crops import batches
from emotalking.networks.easyportrait import PortraitParser, find_teeth
from emotalking.networks.emonet import EmoNet, EmoNetEstimator
from emotalking.networks.face_normals import check_directions, estimate_normals
from emotalking.preprocess.config import PARSINGS
from emotalking.preprocess.parsing.geometry import face_zones
from emotalking.preprocess.parsing.labels import teeth_mask
from emotalking.progress import track

BATCH = 8
"""Frames that go through the normals network together."""
NORMALS_PROVIDER = "face normals network"
"""Its name in ``subject.json``."""


class NetworkParsing:
    """BiSeNet's 19 classes as a :class:`~.parsing.parser.ParsingProvider`, as TalkingGaussian parses."""

    def __init__(
        self, network: torch.nn.Module, teeth: torch.nn.Module | None = None, device: torch.device | str = "cpu"
    ) -> None:
        """Prepare the networks.

        Args:
            network: normalised images to scores of the 19 classes (:class:`BiSeNet`).
            teeth: normalised images to scores of EasyPortrait's classes; None: teeth by colour, inside the lips.
            device: of the networks.
        """
        self.name = "bisenet" if teeth is None else "bisenet+easyportrait"
        self._network = network.to(device)
        self._teeth = None if teeth is None else teeth.to(device)
        self._device = device

    @classmethod
    def open(cls, parsing: str, device: torch.device | str = "cpu") -> "NetworkParsing":
        """The published networks of a choice in :data:`~emotalking.preprocess.config.PARSINGS`.

        Raises:
            InputError: if a checkpoint is missing or does not fit.
        """
        teeth = PortraitParser.open() if "easyportrait" in PARSINGS[parsing] else None
        return cls(BiSeNet.open(), teeth, device)

    def fit(
        self, images: Sequence[np.ndarray], points: Shaped[np.ndarray, "F K 2"], layout: FaceLayout
    ) -> "NetworkClipParser":
        """Make the clip's parser; the networks are not trained on the frames."""
        return NetworkClipParser(self._network, self._teeth, self._device, layout)


@dataclass(frozen=True)
class NetworkClipParser:
    """A :class:`~.parsing.parser.ClipParser` by networks: BiSeNet's, and EasyPortrait's or None for teeth."""

    network: torch.nn.Module
    teeth: torch.nn.Module | None
    device: torch.device | str
    layout: FaceLayout

    def scores(
        self, image: UInt8[np.ndarray, "H W 3"], points: Shaped[np.ndarray, "K 2"]
    ) -> Float32[np.ndarray, "h w 6"]:
        """Probabilities of :class:`Label` at the network's 512 x 512 pixels."""
        return label_scores(part_scores(self.network, [image], self.device)[0])

    def decide(
        self, image: UInt8[np.ndarray, "H W 3"], points: Shaped[np.ndarray, "K 2"], scores: Float32[np.ndarray, "h w 6"]
    ) -> Masks:
        """Likeliest label of every pixel; teeth are mouth."""
        height, width = image.shape[:2]
        full = cv2.resize(scores, (width, height), interpolation=cv2.INTER_LINEAR)
        labels = full.argmax(-1).astype(np.uint8)
        if self.teeth is None:
            teeth = teeth_mask(image, face_zones(points, self.layout, (height, width)))
        else:
            teeth = find_teeth(self.teeth, [image], self.device)[0]
        labels[teeth] = Label.MOUTH
        return Masks(labels, teeth)


def read_emotion(
    frames: Iterable[UInt8[np.ndarray, "H W 3"]],
    points: Shaped[np.ndarray, "N K 2"],
    layout: FaceLayout,
    model: EmoNetEstimator,
) -> Float32[np.ndarray, "N 2"]:
    """Valence and arousal of every frame by EmoNet, in [-1, 1], each frame for itself (no smoothing over time).

    Args:
        frames: all frames in order.
        points: steadied landmarks, pixels.
        layout: their meaning.
        model: the network.
    """
    values = model.read(frames, points[:, list(layout.ibug68)])
    return np.stack(list(track(values, "emotion", len(points))))


def open_emotion_model(name: str, device: torch.device | str = "cpu") -> EmoNetEstimator:
    """The published EmoNet of a choice in :data:`~emotalking.preprocess.config.EMOTION_MODELS`.

    Raises:
        InputError: if the checkpoint is missing or does not fit.
    """
    return EmoNetEstimator(EmoNet.open(5 if name == "emonet5" else 8), device)


def draw_network_normals(
    files: SubjectFiles,
    frames: Iterable[UInt8[np.ndarray, "H W 3"]],
    points: Shaped[np.ndarray, "N K 2"],
    layout: FaceLayout,
    network: torch.nn.Module,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """``normals/`` of all frames by the face-normals network, kept to the skin that ``parsing/`` shows.

    Args:
        files: the subject; its parsing is there.
        frames: all frames in order.
        points: steadied landmarks, pixels.
        layout: their meaning.
        network: :class:`FaceNormals`.
        device: of the networks.

    Raises:
        InputError: if the first frame's normals do not bulge as a face does.
    """
    network = network.to(device)
    faces = points[:, list(layout.ibug68)]

    def estimated() -> Iterator[Float32[np.ndarray, "H W 3"]]:
        for part in batches(zip(frames, faces, strict=True), BATCH):
            images, places = [image for image, _ in part], np.stack([place for _, place in part])
            yield from estimate_normals(network, images, places, device)[0]

    for index, normals in enumerate(track(estimated(), "normals", len(points))):
        skin = read_masks(files, index).labels == Label.HEAD
        if index == 0:
            check_directions(normals, skin & normals.any(-1), "the face-normals network")
        write.write_normals(files.root, index, normals * skin[..., None])
    return {"provider": NORMALS_PROVIDER}
