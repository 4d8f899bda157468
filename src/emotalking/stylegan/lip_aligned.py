"""The lip-aligned emotional face generator (paper 3.3.1, S2.1): EmoStyle, lip encoder, LipExtract, StyleGAN2."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from emotalking.stylegan.emostyle import WIDTHS, EmoExtract, LipEncoder, LipExtract
from emotalking.stylegan.stylegan2 import StyleGAN2, StyleGAN2Size, to_images

LARGEST = 256
"""Pixels a side to which generated faces are averaged before critics and losses (EmoStyle)."""


@runtime_checkable
class StyleEncoder(Protocol):
    """Inversion by a network: faces to their W+ styles."""

    def __call__(self, faces: Float[Tensor, "B S S 3"]) -> Float[Tensor, "B L D"]:
        """Styles of FFHQ-aligned RGB faces in [0, 1]."""
        ...


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
