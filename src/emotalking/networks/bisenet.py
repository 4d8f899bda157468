"""BiSeNet for face parsing: 19 classes of CelebAMask-HQ (Yu et al. 2018, arXiv 1808.00897).

Written from the paper and the layout of the public checkpoint ``79999_iter.pth``, in which a stage of the ResNet-18
takes the place of the paper's spatial path.
"""

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from emotalking.data.labels import Label
from emotalking.networks.blocks import BasicBlock, stage
from emotalking.networks.weights import Published

SIZE = 512
"""Side of the images that the network was trained on."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, of RGB in [0, 1]."""


class FacePart(IntEnum):
    """Classes of CelebAMask-HQ in the order of the public checkpoint; left and right are the person's."""

    BACKGROUND = 0
    SKIN = 1
    LEFT_BROW = 2
    RIGHT_BROW = 3
    LEFT_EYE = 4
    RIGHT_EYE = 5
    GLASSES = 6
    LEFT_EAR = 7
    RIGHT_EAR = 8
    EARRING = 9
    NOSE = 10
    INNER_MOUTH = 11
    UPPER_LIP = 12
    LOWER_LIP = 13
    NECK = 14
    NECKLACE = 15
    CLOTH = 16
    HAIR = 17
    HAT = 18


_LABELS = {
    FacePart.BACKGROUND: Label.BACKGROUND,
    FacePart.INNER_MOUTH: Label.MOUTH,
    FacePart.NECK: Label.NECK,
    FacePart.NECKLACE: Label.NECK,
    FacePart.CLOTH: Label.TORSO,
    FacePart.HAIR: Label.HAIR,
}
LABEL_OF_PART = np.array([_LABELS.get(part, Label.HEAD) for part in FacePart], np.uint8)
"""The subject folder's class of each of the 19 (docs/paper.md 1.2); a hat belongs to the head. [19]."""


class _ConvBnRelu(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)).relu()


class _Attention(nn.Module):
    """Attention refinement module: channels weighted by what the whole image holds (paper, 3.2)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = _ConvBnRelu(channels_in, channels_out)
        self.conv_atten = nn.Conv2d(channels_out, channels_out, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        features = self.conv(x)
        whole = features.mean((2, 3), keepdim=True)
        return features * self.bn_atten(self.conv_atten(whole)).sigmoid()


class _Trunk(nn.Module):
    """ResNet-18 without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = stage(BasicBlock, 64, 64, 2, 1)
        self.layer2 = stage(BasicBlock, 64, 128, 2, 2)
        self.layer3 = stage(BasicBlock, 128, 256, 2, 2)
        self.layer4 = stage(BasicBlock, 256, 512, 2, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = F.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
        eighth = self.layer2(self.layer1(x))
        sixteenth = self.layer3(eighth)
        return eighth, sixteenth, self.layer4(sixteenth)


class _ContextPath(nn.Module):
    """Trunk, global context and attention; returns trunk features and context, both at an eighth of the size."""

    def __init__(self) -> None:
        super().__init__()
        self.resnet = _Trunk()
        self.arm16 = _Attention(256, 128)
        self.arm32 = _Attention(512, 128)
        self.conv_head32 = _ConvBnRelu(128, 128)
        self.conv_head16 = _ConvBnRelu(128, 128)
        self.conv_avg = _ConvBnRelu(512, 128, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        eighth, sixteenth, last = self.resnet(x)
        context = self.arm32(last) + self.conv_avg(last.mean((2, 3), keepdim=True))
        context = self.conv_head32(F.interpolate(context, sixteenth.shape[2:]))
        context = self.arm16(sixteenth) + context
        return eighth, self.conv_head16(F.interpolate(context, eighth.shape[2:]))


class _Fusion(nn.Module):
    """Feature fusion module: both paths mixed, then weighted by channel (paper, 3.2)."""

    def __init__(self) -> None:
        super().__init__()
        self.convblk = _ConvBnRelu(256, 256, 1)
        self.conv1 = nn.Conv2d(256, 64, 1, bias=False)
        self.conv2 = nn.Conv2d(64, 256, 1, bias=False)

    def forward(self, spatial: Tensor, context: Tensor) -> Tensor:
        features = self.convblk(torch.cat([spatial, context], 1))
        weights = self.conv2(self.conv1(features.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return features + features * weights


class _Head(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv = _ConvBnRelu(256, 256)
        self.conv_out = nn.Conv2d(256, classes, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(self.conv(x))


class BiSeNet(Published):
    """The parser without the two heads that only its training used."""

    MODEL = "bisenet"
    UNUSED = ("conv_out16.", "conv_out32.")

    def __init__(self) -> None:
        super().__init__()
        self.cp = _ContextPath()
        self.ffm = _Fusion()
        self.conv_out = _Head(len(FacePart))

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 19 H W"]:
        """Scores of the classes, before any softmax.

        Args:
            images: RGB normalised by :data:`MEAN` and :data:`STD`; the network was trained at 512 x 512.
        """
        scores = self.conv_out(self.ffm(*self.cp(images)))
        return F.interpolate(scores, images.shape[2:], mode="bilinear", align_corners=True)


def normalised(
    images: Sequence[UInt8[np.ndarray, "H W 3"]],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    size: int | None,
    device: torch.device | str,
) -> Float[Tensor, "B 3 H2 W2"]:
    """RGB images of one size as a network's input: in [0, 1], less the mean, over the deviation.

    Args:
        images: RGB, all of one size.
        mean: of each channel, in [0, 1].
        std: of each channel, in [0, 1].
        size: of the square to fill (bilinear, antialiased); None: as they are.
        device: of the result.
    """
    batch = torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2).float() / 255
    if size is not None and batch.shape[2:] != (size, size):
        batch = F.interpolate(batch, (size, size), mode="bilinear", antialias=True)
    offset, scale = (torch.tensor(value, device=batch.device).view(1, 3, 1, 1) for value in (mean, std))
    return (batch - offset) / scale


@torch.inference_mode()
def part_scores(
    network: nn.Module, images: Sequence[UInt8[np.ndarray, "H W 3"]], device: torch.device | str = "cpu"
) -> Float32[np.ndarray, "B S S 19"]:
    """Probabilities of :class:`FacePart` in RGB images of one size, at the 512 x 512 pixels of the network.

    Args:
        network: on ``device``; normalised images to scores of the 19 classes.
        images: RGB; others than 512 x 512 are stretched to that.
        device: where the network is.
    """
    scores = network(normalised(images, MEAN, STD, SIZE, device))
    return scores.softmax(1).permute(0, 2, 3, 1).float().cpu().numpy()


def label_scores(parts: Float32[np.ndarray, "*shape 19"]) -> Float32[np.ndarray, "*shape 6"]:
    """Probabilities of :class:`Label`, each the sum of its parts'.

    Deviation: TalkingGaussian takes the likeliest of the 19 classes first. Reason: a pixel that may be nose or cheek is
    surely head, and sums can be made steady over time and enlarged before anything is decided.
    """
    return parts @ np.eye(len(Label), dtype=np.float32)[LABEL_OF_PART]
