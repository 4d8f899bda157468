"""e4e, an encoder of faces into StyleGAN2's W+ (Tov et al. 2021, arXiv 2102.02766).

Written from the paper and the names and shapes of the public file for FFHQ: IR-SE-50 (Deng et al. 2019, arXiv
1801.07698) with a small feature pyramid; a convolutional head for the first style and one for what each other style
adds to it.
Not verified here: the file itself (not available; a difference raises an error that names it).
"""

import math
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from emotalking.errors import InputError
from emotalking.networks.registry import model_path
from emotalking.networks.weights import load_sized, read_torch

SIZE = 256
"""Pixels a side of the encoder's input."""
STYLE_DIM = 512
UNITS = ((64, 64, 3), (64, 128, 4), (128, 256, 14), (256, 512, 3))
"""Channels before and after a stage, and its blocks; each stage halves the size."""
MIDDLE, FINE = 3, 7
"""Indices of the first styles computed from the middle and from the fine features."""
SQUEEZED = 16


class _Attention(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // SQUEEZED, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // SQUEEZED, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


class _Unit(nn.Module):
    """A residual block of IR-SE."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)
        if channels_in != channels:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(channels_in),
            nn.Conv2d(channels_in, channels, 3, 1, 1, bias=False),
            nn.PReLU(channels),
            nn.Conv2d(channels, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels),
            _Attention(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut_layer(x) + self.res_layer(x)


class _Scaled(nn.Module):
    """Linear layer with equalised learning rate."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(STYLE_DIM, STYLE_DIM))
        self.bias = nn.Parameter(torch.zeros(STYLE_DIM))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight / math.sqrt(STYLE_DIM), self.bias)


class _Head(nn.Module):
    """Features of ``size`` pixels a side to one style, halved by each convolution."""

    def __init__(self, size: int) -> None:
        super().__init__()
        halvings = range(int(math.log2(size)))
        self.convs = nn.Sequential(
            *(p for _ in halvings for p in (nn.Conv2d(STYLE_DIM, STYLE_DIM, 3, 2, 1), nn.LeakyReLU()))
        )
        self.linear = _Scaled()

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.convs(x).flatten(1))


class E4e(nn.Module):
    """A ``stylegan.lip_aligned.StyleEncoder`` for FFHQ's generator."""

    def __init__(self, styles: int = 18) -> None:
        """Encode for generators with ``styles`` styles per image."""
        super().__init__()
        self.input_layer = nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64))
        units = [
            _Unit(before if i == 0 else after, after, 2 if i == 0 else 1)
            for before, after, count in UNITS
            for i in range(count)
        ]
        self.body = nn.Sequential(*units)
        sizes = [16 if i < MIDDLE else 32 if i < FINE else 64 for i in range(styles)]
        self.styles = nn.ModuleList(_Head(size) for size in sizes)
        self.latlayer1 = nn.Conv2d(256, STYLE_DIM, 1)
        self.latlayer2 = nn.Conv2d(128, STYLE_DIM, 1)
        self.register_buffer("latent_avg", torch.zeros(styles, STYLE_DIM))
        self.latent_avg: Tensor

    def forward(self, faces: Float[Tensor, "B S S 3"]) -> Float[Tensor, "B L 512"]:
        """W+ styles of RGB faces in [0, 1], brought to 256 pixels."""
        x = faces.permute(0, 3, 1, 2) * 2 - 1
        if x.shape[-1] != SIZE:
            x = F.interpolate(x, (SIZE, SIZE), mode="bilinear", antialias=True)
        x = self.input_layer(x)
        pyramid = []
        start = 0
        for count in (UNITS[0][2] + UNITS[1][2], UNITS[2][2], UNITS[3][2]):
            x = self.body[start : start + count](x)
            pyramid.append(x)
            start += count
        fine, middle, coarse = pyramid
        middle = _finer(coarse, self.latlayer1(middle))
        fine = _finer(middle, self.latlayer2(fine))
        first = self.styles[0](coarse)
        added = [
            head(coarse if i < MIDDLE else middle if i < FINE else fine) for i, head in enumerate(self.styles) if i
        ]
        return torch.stack([first, *(first + delta for delta in added)], 1) + self.latent_avg

    @classmethod
    def open(cls, path: Path | None = None) -> "E4e":
        """The published encoder, frozen; ``path`` defaults to the model folder's file.

        The generator in the same file is ignored: it is StyleGAN2 for FFHQ.

        Raises:
            InputError: if the file is missing or does not fit.
        """
        path = path or model_path("e4e")
        content: Any = read_torch(path)
        content = content if isinstance(content, dict) else {}
        weights, mean = content.get("state_dict"), content.get("latent_avg")
        if not isinstance(weights, dict) or not isinstance(mean, Tensor):
            raise InputError(f"{path} holds no state_dict with its latent_avg: give e4e's published file for FFHQ.")
        found = {
            str(name).removeprefix("encoder."): tensor.float() if tensor.is_floating_point() else tensor
            for name, tensor in weights.items()
            if str(name).startswith("encoder.") and isinstance(tensor, Tensor)
        }
        build = partial(cls, len(mean)) if mean.dim() == 2 else cls
        return load_sized(build, _counted(found) | {"latent_avg": mean.float()}, path)


def _counted(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop BatchNorm's counters, which have no effect."""
    return {name: tensor for name, tensor in found.items() if not name.endswith("num_batches_tracked")}


def _finer(coarse: Tensor, fine: Tensor) -> Tensor:
    """Upsample and add one level of the feature pyramid."""
    return F.interpolate(coarse, fine.shape[2:], mode="bilinear", align_corners=True) + fine
