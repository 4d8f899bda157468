"""The paper's critics for faces of real people: EmoNet, FAN and VGGFace2, each with the crop of its training."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from emotalking.networks import emonet
from emotalking.networks.emonet import EmoNet
from emotalking.stylegan import fan, vggface2
from emotalking.stylegan.critics import FoundPoints, read_maps
from emotalking.stylegan.fan import Fan, fan_crop
from emotalking.stylegan.vggface2 import VggFace2

EMOTION_SIDE = 1.1
"""EmoNet's crop: (width + height) of the landmarks' box by this (``emonet_square``)."""

LICENCES = {
    "StyleGAN2 for FFHQ": "NVIDIA Source Code License-NC",
    "e4e": "MIT (code); rests on StyleGAN2 for FFHQ",
    "EmoNet": "CC BY-NC-ND 4.0",
    "FAN": "BSD-3-Clause (code); none stated for the weights",
    "ResNet-50 of VGGFace2": "MIT (code); none stated for the weights",
}
"""Licences of the networks that such a generator is derived from."""


def cut_faces(
    faces: Float[Tensor, "B S S 3"], centre: Float[Tensor, "B 2"], half: Float[Tensor, " B"], size: int
) -> Float[Tensor, "B 3 C C"]:
    """Crop squares of aligned crops, bilinear; pixels outside are black.

    Args:
        faces: RGB.
        centre: of the new squares, -1 to 1 in the old ones.
        half: half their sides, in the same units.
        size: pixels a side, C.
    """
    move = torch.zeros(len(faces), 2, 3, device=faces.device, dtype=faces.dtype)
    move[:, 0, 0] = move[:, 1, 1] = half
    move[:, :, 2] = centre
    grid = F.affine_grid(move, [len(faces), 3, size, size], align_corners=False)
    return F.grid_sample(faces.permute(0, 3, 1, 2), grid, align_corners=False)


class PublishedCritics:
    """A :class:`~emotalking.stylegan.critics.FaceCritics`."""

    def __init__(self, emotions: EmoNet, landmarks: Fan, identities: VggFace2) -> None:
        self.emotions = emotions
        self.landmarks = landmarks
        self.identities = identities

    @classmethod
    def open(cls, device: torch.device | str = "cpu") -> "PublishedCritics":
        """Open the networks from the model folder.

        Raises:
            UserError: a file is missing or does not fit.
        """
        return cls(EmoNet.open().to(device), Fan.open().to(device), VggFace2.open().to(device))

    def emotion(self, faces: Float[Tensor, "B S S 3"], ibug68: Float[Tensor, "B 68 2"]) -> Float[Tensor, "B 2"]:
        """EmoNet's valence and arousal."""
        low, high = ibug68.amin(1), ibug68.amax(1)
        half = (high - low).sum(1) / EMOTION_SIDE / 2
        return self.emotions(cut_faces(faces, (low + high) / 2, half, emonet.SIZE)).va

    def points(self, faces: Float[Tensor, "B S S 3"], ibug68: Float[Tensor, "B 68 2"]) -> FoundPoints:
        """FAN's maps, whose pixels are those of its crop."""
        return fan_points(self.landmarks, faces, ibug68)

    def identity(self, faces: Float[Tensor, "B S S 3"], ibug68: Float[Tensor, "B 68 2"]) -> Float[Tensor, "B D"]:
        """VGGFace2's embeddings of the middle of the aligned crop (EmoStyle's crop).

        Deviation: EmoStyle shrinks to the nearest pixel in two steps; here it is one bilinear step.
        """
        half = faces.new_full((len(faces),), vggface2.MIDDLE)
        return self.identities(cut_faces(faces, torch.zeros_like(ibug68[:, 0]), half, vggface2.SIZE))


def fan_points(network: Fan, faces: Float[Tensor, "B S S 3"], ibug68: Float[Tensor, "B 68 2"]) -> FoundPoints:
    """Landmarks of FFHQ-aligned faces, in pixels of the network's own crop."""
    maps = network(cut_faces(faces, *fan_crop(ibug68), fan.SIZE))
    return FoundPoints(maps, read_maps(maps))
