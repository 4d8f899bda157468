"""EmoStyle's emotion mapping (Azari and Lim 2024) and the lip alignment that the paper adds (sections 3.3.1 and S2).

Both move StyleGAN2's styles: EmoExtract by the commanded valence and arousal, LipExtract by the lips of the source.
"""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from emotalking.errors import InputError
from emotalking.networks.registry import model_path
from emotalking.networks.weights import load_tensors, read_torch

STYLES = 18
"""Styles of StyleGAN2 at 1024 pixels."""

STYLE_DIM = 512
EMOTION_DIM = 64
LIP_DIM = 64
HEATMAPS = 20
"""Lip points, iBUG 48-67, one map each."""

SLOPE = 0.2

WIDTHS = (2048, 1024, 512)
"""Widths of the hidden layers of each style's MLP."""


def _mlp(code: int, dim: int, widths: tuple[int, ...]) -> nn.Sequential:
    """(code and style) -> hidden layers -> (style)."""
    sizes = (code + dim, *widths)
    hidden = [part for a, b in zip(sizes, sizes[1:], strict=False) for part in (nn.Linear(a, b), nn.LeakyReLU(SLOPE))]
    return nn.Sequential(*hidden, nn.Linear(sizes[-1], dim))


def _each_style(
    mlps: nn.ModuleList, styles: Float[Tensor, "B L D"], code: Float[Tensor, "B E"]
) -> Float[Tensor, "B L D"]:
    """Apply one MLP per style, each to its style concatenated with the same code.

    Raises:
        ValueError: if there are more or fewer styles than MLPs.
    """
    if styles.shape[1] != len(mlps):
        raise ValueError(f"expected {len(mlps)} styles an image (W+), got {styles.shape[1]}")
    moved = [mlp(torch.cat([style, code], 1)) for mlp, style in zip(mlps, styles.unbind(1), strict=True)]
    return torch.stack(moved, 1)


class EmoExtract(nn.Module):
    """Valence and arousal up-sampled (2 -> 32 -> 64), and for each style an MLP that predicts its offset.

    Named as in EmoStyle's checkpoint of the W+ variant (``emotion_enc``, ``latent_net``).
    """

    def __init__(self, styles: int = STYLES, dim: int = STYLE_DIM, widths: tuple[int, ...] = WIDTHS) -> None:
        """Build for a generator of this size.

        Args:
            styles: styles per image (``StyleGAN2Size.styles``).
            dim: numbers per style (``StyleGAN2Size.style_dim``).
            widths: hidden layers of the MLPs; smaller than published for smaller generators.
        """
        super().__init__()
        self.emotion_enc = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(SLOPE), nn.Linear(32, EMOTION_DIM))
        self.latent_net = nn.ModuleList(_mlp(EMOTION_DIM, dim, widths) for _ in range(styles))

    def forward(self, styles: Float[Tensor, "B L D"], va: Float[Tensor, "B 2"]) -> Float[Tensor, "B L D"]:
        """The emotion modification d of the source's W+ styles; the emotional styles are ``styles + d``.

        Args:
            styles: the source's, from inversion.
            va: valence and arousal in [-1, 1].
        """
        return _each_style(self.latent_net, styles, self.emotion_enc(va))

    @classmethod
    def open(cls, path: Path | None = None) -> "EmoExtract":
        """EmoStyle's published mapping, frozen; ``path`` defaults to the model folder's file.

        Raises:
            InputError: if the file is missing, holds no mapping, or does not fit (the W variant has one MLP only).
        """
        return read_emostyle(cls(), path or model_path("emostyle"))


def read_emostyle(network: EmoExtract, path: Path) -> EmoExtract:
    """Fill ``network`` with the mapping in a file of EmoStyle's trainer, for evaluation only.

    Raises:
        InputError: as :meth:`EmoExtract.open`.
    """
    content: Any = read_torch(path)
    weights = content.get("emo_mapping_state_dict") if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise InputError(f"{path} holds no emo_mapping_state_dict: give EmoStyle's published file.")
    return load_tensors(network, {str(name): tensor.float() for name, tensor in weights.items()}, path)


class LipEncoder(nn.Module):
    """The source's lip heat maps to one vector.

    Assumption: the paper gives neither depth nor width. Four convolutions halve the maps of 64 x 64 pixels to 4 x 4,
    and one linear layer follows; the vector is as long as EmoStyle's emotion code.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = (HEATMAPS, 32, 64, 128, 128)
        halvings = [
            part
            for a, b in zip(widths, widths[1:], strict=False)
            for part in (nn.Conv2d(a, b, 3, 2, 1), nn.LeakyReLU(SLOPE))
        ]
        self.net = nn.Sequential(*halvings, nn.Flatten(), nn.Linear(widths[-1] * 4 * 4, LIP_DIM))

    def forward(self, heatmaps: Float[Tensor, "B 20 64 64"]) -> Float[Tensor, "B 64"]:
        """Lip embedding of the landmark detector's maps of iBUG 48-67."""
        return self.net(heatmaps)


class LipExtract(nn.Module):
    """The lip modification of the emotional styles (paper eq. 6, section S2).

    Assumption: an MLP a style as in EmoExtract; the paper gives neither depth nor width. The last layers start at zero,
    so that training starts from EmoStyle's own images.
    """

    def __init__(self, styles: int = STYLES, dim: int = STYLE_DIM, widths: tuple[int, ...] = WIDTHS) -> None:
        """Build as :class:`EmoExtract`."""
        super().__init__()
        self.latent_net = nn.ModuleList(_mlp(LIP_DIM, dim, widths) for _ in range(styles))
        for mlp in self.latent_net:
            last = mlp.get_submodule(str(2 * len(widths)))
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, styles: Float[Tensor, "B L D"], lips: Float[Tensor, "B 64"]) -> Float[Tensor, "B L D"]:
        """The lip modification of emotional W+ styles; the lip-aligned styles are ``styles`` plus it.

        Args:
            styles: source's styles plus EmoExtract's modification.
            lips: :class:`LipEncoder`'s embedding of the source's lips.
        """
        return _each_style(self.latent_net, styles, lips)
