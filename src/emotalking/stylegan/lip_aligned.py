"""The lip-aligned emotional face generator (paper 3.3.1, S2.1): EmoStyle, lip encoder, LipExtract, StyleGAN2.

With its file, and the editor of FFHQ-aligned crops.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from emotalking.errors import InputError
from emotalking.io.reading import parse_json, reading
from emotalking.io.tensors import read_tensors, write_tensors
from emotalking.networks.weights import load_sized
from emotalking.stylegan.critics import FoundPoints, LandmarkNet, SmallEncoder, small_points
from emotalking.stylegan.e4e import E4e
from emotalking.stylegan.emostyle import WIDTHS, EmoExtract, LipEncoder, LipExtract
from emotalking.stylegan.published_critics import Fan, fan_points
from emotalking.stylegan.stylegan2 import StyleGAN2, StyleGAN2Size, to_images

LARGEST = 256
"""Pixels a side to which generated faces are averaged before critics and losses (EmoStyle)."""
NAME = "faces.safetensors"
"""Name of the file in a subject folder."""
VERSION = "1"
BATCH = 4
"""Crops edited together; images of 1024 pixels a side need much memory."""

StyleEncoder = Callable[[Tensor], Tensor]
"""Inversion by a network: FFHQ-aligned RGB faces [B, S, S, 3] in [0, 1] to their W+ styles [B, L, D]."""


@dataclass(frozen=True)
class Edited:
    """An edit and its two modifications."""

    styles: Float[Tensor, "B L D"]
    """W+ of the edited face."""
    d_emotion: Float[Tensor, "B L D"]
    """EmoExtract's modification of the source's styles."""
    d_lip: Float[Tensor, "B L D"] | None
    """LipExtract's modification; None: EmoStyle alone."""


class LipAligned(nn.Module):
    """Generator and edit networks, for a generator of any size."""

    def __init__(self, size: StyleGAN2Size, widths: tuple[int, ...] = WIDTHS) -> None:
        """Untrained networks.

        Args:
            size: of StyleGAN2.
            widths: of the hidden layers of EmoExtract's and LipExtract's MLPs.
        """
        super().__init__()
        self.size, self.widths = size, widths
        self.generator = StyleGAN2(size)
        self.emotion = EmoExtract(size.styles, size.style_dim, widths)
        self.lip_encoder = LipEncoder()
        self.lip_extract = LipExtract(size.styles, size.style_dim, widths)

    def draw(self, styles: Float[Tensor, "B L D"]) -> Float[Tensor, "B S S 3"]:
        """Faces of these styles, at most :data:`LARGEST` pixels a side."""
        return reduced(to_images(self.generator.synthesis(styles)))

    def move(
        self,
        styles: Float[Tensor, "B L D"],
        va: Float[Tensor, "B 2"],
        lips: Float[Tensor, "B 20 64 64"] | None = None,
    ) -> Edited:
        """Give faces another emotion (eq. 6).

        Args:
            styles: W+ of the source, from inversion.
            va: commanded valence and arousal in [-1, 1].
            lips: the source's lip heat maps; None: EmoStyle alone, whose lips follow the emotion.
        """
        d_emotion = self.emotion(styles, va)
        emotional, d_lip = styles + d_emotion, None
        if lips is not None:
            d_lip = self.lip_extract(emotional, self.lip_encoder(lips))
            emotional = emotional + d_lip
        return Edited(emotional, d_emotion, d_lip)


def reduced(faces: Float[Tensor, "B S S 3"], largest: int = LARGEST) -> Float[Tensor, "B s s 3"]:
    """Average faces to at most ``largest`` pixels a side (sizes are powers of two)."""
    if faces.shape[1] <= largest:
        return faces
    return F.avg_pool2d(faces.permute(0, 3, 1, 2), faces.shape[1] // largest).permute(0, 2, 3, 1)


@dataclass(frozen=True)
class Small:
    """Encoder and landmark network of a small generator, stored in its file."""

    encoder: SmallEncoder
    landmarks: LandmarkNet


@dataclass(frozen=True)
class TrainedFaces:
    """Networks of an edit."""

    network: LipAligned
    encoder: StyleEncoder
    points: Callable[[Tensor, Tensor], FoundPoints]
    """Faces [B, S, S, 3] and their landmarks in the crop to landmark maps."""
    licences: dict[str, str] = field(default_factory=dict)
    """Licences of the networks that the file is derived from."""


def save_faces(path: Path, network: LipAligned, licences: dict[str, str], small: Small | None = None) -> None:
    """Write a trained generator.

    Args:
        path: ``.safetensors``.
        network: the trained networks.
        licences: of the networks that it is derived from.
        small: its own encoder and landmark network; None: e4e and FAN from the model folder.

    Raises:
        InputError: the file cannot be written.
    """
    parts: dict[str, nn.Module] = {"network": network}
    head: dict[str, Any] = {"size": asdict(network.size), "widths": network.widths, "licences": licences}
    if small is not None:
        parts |= {"encoder": small.encoder, "landmarks": small.landmarks}
        head["small"] = {"encoder": small.encoder.width, "landmarks": small.landmarks.width}
    tensors = {
        f"{part}.{name}": tensor
        for part, module in parts.items()
        for name, tensor in module.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    try:
        write_tensors(path, tensors, {"emotalking_faces": VERSION, "head": json.dumps(head)})
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error}): free some space and train on.") from error


def open_faces(path: Path, device: torch.device | str = "cpu") -> TrainedFaces:
    """Read a trained generator, frozen.

    Raises:
        InputError: the file is missing, damaged or another kind's, or e4e or FAN, which it needs, is missing.
    """
    if not path.is_file():
        raise InputError(f"{path} cannot be read as a file of 'emotalking faces train': there is no such file.")
    with reading(path, "cannot be read as a file of 'emotalking faces train'", "train it again"):
        metadata, tensors = read_tensors(path)
    with reading(path, "is no file of this version's 'emotalking faces train'", "train it again"):
        if metadata.get("emotalking_faces") != VERSION:
            raise KeyError(VERSION)
        head = parse_json(metadata["head"], dict)
        size = StyleGAN2Size(**head["size"])
        widths = tuple(head["widths"])
        small = head.get("small")

        def build() -> nn.ModuleDict:
            parts: dict[str, nn.Module] = {"network": LipAligned(size, widths)}
            if small is not None:
                parts |= {"encoder": SmallEncoder(size, small["encoder"]), "landmarks": LandmarkNet(small["landmarks"])}
            return nn.ModuleDict(parts)

        parts = load_sized(build, tensors, path).to(device)
        licences = {str(name): str(licence) for name, licence in head["licences"].items()}
    network = parts["network"]
    assert isinstance(network, LipAligned)
    if small is not None:
        encoder, landmarks = parts["encoder"], parts["landmarks"]
        assert isinstance(encoder, SmallEncoder) and isinstance(landmarks, LandmarkNet)
        return TrainedFaces(network, encoder, lambda faces, _: small_points(landmarks, faces), licences)
    e4e, fan = E4e.open().to(device), Fan.open().to(device)
    return TrainedFaces(network, e4e, lambda faces, ibug68: fan_points(fan, faces, ibug68), licences)


class StyleEditor:
    """Editor of faces in FFHQ-aligned crops: inversion by the encoder, EmoExtract, LipExtract, StyleGAN2."""

    name = "paper"

    def __init__(self, faces: TrainedFaces) -> None:
        """Edit crops of ``size`` pixels a side, the generator's resolution."""
        self._faces = faces
        self.size = faces.network.size.resolution

    @torch.no_grad()
    def __call__(
        self, crops: Float[Tensor, "B S S 3"], ibug68: Float[Tensor, "B 68 2"], va: Float[Tensor, "B 2"]
    ) -> Float[Tensor, "B S S 3"]:
        """Edited faces.

        Args:
            crops: RGB in [0, 1].
            ibug68: landmarks in the crops, from (-1, -1) top left to (1, 1) bottom right.
            va: commanded valence and arousal in [-1, 1].
        """
        parts = zip(crops.split(BATCH), ibug68.split(BATCH), va.split(BATCH), strict=True)
        return torch.cat([self._edit(*part) for part in parts])

    def _edit(self, crops: Tensor, ibug68: Tensor, va: Tensor) -> Tensor:
        network, faces = self._faces.network, reduced(crops)
        styles = self._faces.encoder(faces)
        edited = network.move(styles, va, self._faces.points(faces, ibug68).lips)
        return to_images(network.generator.synthesis(edited.styles))
