"""EmoNet: valence, arousal and expression of a face (Toisoul et al. 2021, Nature Machine Intelligence 3, 42-50).

Written from the paper and the layout of the public checkpoints: a face alignment network of two hourglasses (Bulat and
Tzimiropoulos 2017, arXiv 1703.07332) whose landmark heat maps guide an emotion head. The instance normalisation of the
paper is BatchNorm in the weights.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Shaped, UInt8
from torch import Tensor, nn

from emotalking.networks.blocks import Block, Hourglass
from emotalking.networks.crops import batches, crop, square_around
from emotalking.networks.registry import model_path
from emotalking.networks.weights import load_frozen
from emotalking.ops.box import Box

SIZE = 256
"""Side of the face crop in pixels."""
LANDMARKS = 68
EXPRESSIONS = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")
"""Order of the 8-class network's logits."""
FIVE_EXPRESSIONS = ("neutral", "happy", "sad", "surprise", "anger")
"""Order of the 5-class network's logits.

Deviation: the authors' demonstration prints "fear" for the last. Reason: their training data put anger there.
"""
BATCH = 8
"""Faces that go through the network together: enough to keep a GPU busy, little memory."""

_HOURGLASSES, _CHANNELS = 2, 256


@dataclass(frozen=True)
class EmoNetOutput:
    """Prediction for B faces; all fields carry gradient to the images."""

    expression: Float[Tensor, "B E"]
    """Logits (:data:`EXPRESSIONS` or :data:`FIVE_EXPRESSIONS`)."""
    va: Float[Tensor, "B 2"]
    """Valence and arousal as regressed: meant for [-1, 1], not bounded."""
    heatmaps: Float[Tensor, "B 68 Q Q"]
    """Heat maps of the iBUG landmarks, at a quarter of the image's size (64 x 64)."""


class EmoNet(nn.Module):
    """The published network for 8 or 5 expressions."""

    def __init__(self, expressions: Literal[5, 8] = 8) -> None:
        super().__init__()
        self.expressions = FIVE_EXPRESSIONS if expressions == len(FIVE_EXPRESSIONS) else EXPRESSIONS
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = Block(64, 128)
        self.conv3 = Block(128, 128)
        self.conv4 = Block(128, _CHANNELS)
        for i in range(_HOURGLASSES):
            self.add_module(f"m{i}", Hourglass(_CHANNELS, F.max_pool2d))
            self.add_module(f"top_m_{i}", Block(_CHANNELS, _CHANNELS))
            self.add_module(f"conv_last{i}", nn.Conv2d(_CHANNELS, _CHANNELS, 1))
            self.add_module(f"bn_end{i}", nn.BatchNorm2d(_CHANNELS))
            self.add_module(f"l{i}", nn.Conv2d(_CHANNELS, LANDMARKS, 1))
        self.bl0 = nn.Conv2d(_CHANNELS, _CHANNELS, 1)
        self.al0 = nn.Conv2d(LANDMARKS, _CHANNELS, 1)
        self.conv1x1_input_emo_2 = nn.Conv2d((_HOURGLASSES + 1) * _CHANNELS, _CHANNELS, 1)
        halvings = (layer for _ in range(4) for layer in (Block(_CHANNELS, _CHANNELS), nn.MaxPool2d(2)))
        self.emo_net_2 = nn.Sequential(*halvings)
        self.emo_fc_2 = nn.Sequential(
            nn.Linear(_CHANNELS, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, len(self.expressions) + 2)
        )

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> EmoNetOutput:
        """Read B faces, RGB in [0, 1], cut by :func:`emonet_square`; 256 pixels a side in training."""
        x = self.bn1(self.conv1(images)).relu()
        x = self.conv4(self.conv3(F.max_pool2d(self.conv2(x), 2)))
        first, heatmaps = self._align(x, 0)
        first = self.bl0(first)
        second, heatmaps = self._align(x + first + self.al0(heatmaps), 1)
        attention = heatmaps.sum(1, keepdim=True)
        features = torch.cat([x, first * attention, second * attention], 1)
        features = self.emo_net_2(self.conv1x1_input_emo_2(features)).mean((2, 3))
        values = self.emo_fc_2(features)
        return EmoNetOutput(values[:, :-2], values[:, -2:], heatmaps)

    def _align(self, x: Tensor, number: int) -> tuple[Tensor, Tensor]:
        """One hourglass: features and landmark heat maps."""
        x = self.get_submodule(f"top_m_{number}")(self.get_submodule(f"m{number}")(x))
        x = self.get_submodule(f"bn_end{number}")(self.get_submodule(f"conv_last{number}")(x)).relu()
        return x, self.get_submodule(f"l{number}")(x)

    @classmethod
    def open(cls, expressions: Literal[5, 8] = 8, path: Path | None = None) -> "EmoNet":
        """The published network, frozen; ``path`` defaults to the model folder's file.

        Raises:
            InputError: if the file is missing or does not fit.
        """
        return load_frozen(cls(expressions), path or model_path(f"emonet{expressions}"))


def emonet_square(points: Shaped[np.ndarray, "68 2"]) -> Box:
    """The crop on which EmoNet was trained and its published scores were measured.

    Its centre is that of the bounding box of the 68 iBUG landmarks, its side (width + height) / 1.1 of that box.

    Deviation: the authors' video demonstration cuts the box of a face detector, which is neither square nor fixed to
    the face, and other crops change the results (face-analysis/emonet#4). Reason: one crop in training and evaluation.

    Args:
        points: iBUG landmarks of a face, pixels.
    """
    width, height = points.max(0) - points.min(0)
    return square_around(points, float(width + height) / 1.1)


class EmoNetEstimator:
    """Valence and arousal of recorded or rendered frames by EmoNet."""

    def __init__(self, network: EmoNet, device: torch.device | str = "cpu") -> None:
        self.network = network.to(device)
        self.device = torch.device(device)

    def __call__(self, faces: Float[Tensor, "B 256 256 3"]) -> EmoNetOutput:
        """Read faces, RGB in [0, 1], cut by :func:`emonet_square`; differentiable in the images."""
        return self.network(faces.permute(0, 3, 1, 2))

    def read(
        self, frames: Iterable[UInt8[np.ndarray, "H W 3"]], points: Shaped[np.ndarray, "N 68 2"]
    ) -> Iterator[Float32[np.ndarray, "2"]]:
        """Valence and arousal of every frame in turn, clamped to [-1, 1]; a few frames are in memory at a time.

        Args:
            frames: N RGB images.
            points: their iBUG landmarks, pixels, finite.

        Raises:
            ValueError: if there are more or fewer frames than landmarks.
        """
        cuts = (crop(frame, emonet_square(place), SIZE) for frame, place in zip(frames, points, strict=True))
        for part in batches(cuts, BATCH):
            with torch.inference_mode():
                faces = torch.from_numpy(np.stack(part)).to(self.device).float() / 255
                yield from self(faces).va.clamp(-1.0, 1.0).float().cpu().numpy()
