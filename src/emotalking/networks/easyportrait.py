"""Teeth from the face parser of EasyPortrait: a feature pyramid over a ResNet-50 (Kapitanov et al. 2023).

Paper: arXiv 2304.13509; pyramid: Lin et al. 2017 (arXiv 1612.03144); head: Kirillov et al. 2019 (arXiv 1901.02446).
Written from these and the layout of the public checkpoint ``fpn-fp-512.pth``, which mmsegmentation 0.30 trained
(ResNet "v1c": three 3x3 convolutions instead of one 7x7 at the start).
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from emotalking.networks.bisenet import normalised
from emotalking.networks.blocks import Bottleneck, stage
from emotalking.networks.weights import Published

SIZE = 512
"""Side of the images that the network was trained on."""
MEAN = (143.55267075 / 255, 132.96705975 / 255, 126.94924335 / 255)
STD = (60.2625333 / 255, 60.32740275 / 255, 59.30988645 / 255)
"""Mean and deviation of RGB in [0, 1]."""
CLASSES = ("background", "skin", "left brow", "right brow", "left eye", "right eye", "lips", "teeth")
TEETH = CLASSES.index("teeth")

_WIDTHS = (64, 128, 256, 512)
_BLOCKS = (3, 4, 6, 3)
_PYRAMID, _HEAD = 256, 128


class _Conv(nn.Module):
    """A convolution with a bias, or one with BatchNorm and ReLU, under mmcv's names."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, bias=not norm)
        self.bn = nn.BatchNorm2d(channels_out) if norm else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x if self.bn is None else self.bn(x).relu()


class _Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        convs = ((3, 32, 2), (32, 32, 1), (32, 64, 1))
        self.stem = nn.Sequential(
            *(
                layer
                for channels_in, channels_out, stride in convs
                for layer in (
                    nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False),
                    nn.BatchNorm2d(channels_out),
                    nn.ReLU(),
                )
            )
        )
        channels = 64
        for number, (width, count) in enumerate(zip(_WIDTHS, _BLOCKS, strict=True), start=1):
            self.add_module(f"layer{number}", stage(Bottleneck, channels, width, count, 1 if number == 1 else 2))
            channels = width * Bottleneck.expansion

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.max_pool2d(self.stem(x), 3, 2, 1)
        features = []
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
            features.append(x)
        return features


class _Neck(nn.Module):
    """Feature pyramid: coarse features added to finer ones, top down."""

    def __init__(self) -> None:
        super().__init__()
        channels = [width * Bottleneck.expansion for width in _WIDTHS]
        self.lateral_convs = nn.ModuleList(_Conv(count, _PYRAMID, 1, norm=False) for count in channels)
        self.fpn_convs = nn.ModuleList(_Conv(_PYRAMID, _PYRAMID, 3, norm=False) for _ in channels)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, features, strict=True)]
        for level in range(len(laterals) - 1, 0, -1):
            finer = laterals[level - 1]
            laterals[level - 1] = finer + F.interpolate(laterals[level], finer.shape[2:])
        return [conv(x) for conv, x in zip(self.fpn_convs, laterals, strict=True)]


class _Decoder(nn.Module):
    """Every level resized to a quarter of the image's size by convolutions and doublings, summed, classified."""

    def __init__(self) -> None:
        super().__init__()
        heads = [nn.Sequential(_Conv(_PYRAMID, _HEAD, 3, norm=True))]
        for doublings in (1, 2, 3):
            layers: list[nn.Module] = []
            for step in range(doublings):
                layers.append(_Conv(_HEAD if step else _PYRAMID, _HEAD, 3, norm=True))
                layers.append(nn.Upsample(scale_factor=2, mode="bilinear"))
            heads.append(nn.Sequential(*layers))
        self.scale_heads = nn.ModuleList(heads)
        self.conv_seg = nn.Conv2d(_HEAD, len(CLASSES), 1)

    def forward(self, levels: list[Tensor]) -> Tensor:
        total = self.scale_heads[0](levels[0])
        for head, level in zip(list(self.scale_heads)[1:], levels[1:], strict=True):
            # The size differs where the image's is no multiple of 32.
            total = total + F.interpolate(head(level), total.shape[2:], mode="bilinear")
        return self.conv_seg(total)


class PortraitParser(Published):
    """The parser as published, 8 classes (:data:`CLASSES`)."""

    MODEL = "easyportrait"

    def __init__(self) -> None:
        super().__init__()
        self.backbone = _Backbone()
        self.neck = _Neck()
        self.decode_head = _Decoder()

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 8 H W"]:
        """Scores of the classes, before any softmax.

        Args:
            images: RGB normalised by :data:`MEAN` and :data:`STD`; the network was trained at 512 x 512.
        """
        scores = self.decode_head(self.neck(self.backbone(images)))
        return F.interpolate(scores, images.shape[2:], mode="bilinear")


@torch.inference_mode()
def find_teeth(
    network: nn.Module, images: Sequence[UInt8[np.ndarray, "H W 3"]], device: torch.device | str = "cpu"
) -> Bool[np.ndarray, "B H W"]:
    """Masks of the teeth in RGB images of one size.

    Deviation: TalkingGaussian hands frames over in their own size. Reason: the network knows faces at 512 x 512; other
    sizes are resized to it and the scores back.

    Args:
        network: on ``device``; normalised images to scores of :data:`CLASSES`.
        images: RGB.
        device: where the network is.
    """
    scores = network(normalised(images, MEAN, STD, SIZE, device))
    if scores.shape[2:] != images[0].shape[:2]:
        scores = F.interpolate(scores, images[0].shape[:2], mode="bilinear")
    return (scores.argmax(1) == TEETH).cpu().numpy()
