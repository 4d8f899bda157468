"""A stand-in for an avatar: poses at rest, a plate of one colour, and a head of one colour over it."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from emotalking.data.audio_features import DEFAULT_FEATURE


@dataclass
class Frames:
    rgb: Tensor
    alpha: Tensor


class PlainAvatar:
    """The interface of an avatar but for `render`."""

    audio_features = DEFAULT_FEATURE
    device = torch.device("cpu")
    closes_lips = emotional = True

    def __init__(self, width: int, height: int, fps: Fraction, recorded: int) -> None:
        self.width, self.height, self.fps = width, height, fps
        self.viewmats = np.tile(np.eye(4, dtype=np.float32), (recorded, 1, 1))
        self.viewmats[:, 2, 3] = 0.7
        self.aus = np.zeros((recorded, 6), np.float32)
        self.va = np.zeros((recorded, 2), np.float32)
        self.background = np.full((height, width, 3), (10, 20, 200), np.uint8)

    def torso(self, index: int) -> np.ndarray:
        return np.zeros((self.height, self.width, 4), np.uint8)

    def disc(self, x: Tensor | float, y: float, radius: float) -> Tensor:
        """Coverage [B, H, W] of discs around (x, y) in pixels."""
        rows, columns = torch.meshgrid(torch.arange(self.height), torch.arange(self.width), indexing="ij")
        return (((columns - x) ** 2 + (rows - y) ** 2) < radius**2).float()

    def composed(self, alpha: Tensor, red: Tensor | float, va: Tensor | None, background: Tensor | None) -> Frames:
        """A head over the background; its green is the valence."""
        colour = torch.zeros(len(alpha), 3)
        colour[:, 0] = red
        if va is not None:
            colour[:, 1] = va[:, 0] / 2 + 0.5
        rgb = colour[:, None, None] * alpha[..., None]
        return Frames(rgb if background is None else rgb + background * (1 - alpha[..., None]), alpha)
