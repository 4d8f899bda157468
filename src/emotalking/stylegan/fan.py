"""FAN, the 2-D face alignment network of four hourglasses (Bulat and Tzimiropoulos 2017, arXiv 1703.07332).

Written from the paper and the names and shapes of the public checkpoints: the ``.pth.tar`` and the TorchScript
archives, of which the tensors alone are read. Not verified here: that the archives of the versions 1.5 and 1.6 hold
exactly these names (no file was available; a difference raises an error that names it).
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from emotalking.networks.blocks import Block, Hourglass
from emotalking.networks.registry import model_path
from emotalking.networks.weights import load_frozen

SIZE = 256
"""Side of the face crop in pixels."""
LANDMARKS = 68
HOURGLASSES = 4
CHANNELS = 256

FOREHEAD = 0.25
"""Distance of a detector box's top above the brows, as a share of the landmarks' height."""
RAISED = 0.12
"""Distance of the crop's centre above the box's, as a share of the box's height."""
WIDER = 200 / 195
"""Side of the crop, as a multiple of (width + height) of the box."""


class Fan(nn.Module):
    """Heat maps of the 68 iBUG landmarks."""

    def __init__(self, hourglasses: int = HOURGLASSES) -> None:
        super().__init__()
        self._hourglasses = hourglasses
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = Block(64, 128)
        self.conv3 = Block(128, 128)
        self.conv4 = Block(128, CHANNELS)
        for i in range(hourglasses):
            self.add_module(f"m{i}", Hourglass(CHANNELS, F.avg_pool2d))
            self.add_module(f"top_m_{i}", Block(CHANNELS, CHANNELS))
            self.add_module(f"conv_last{i}", nn.Conv2d(CHANNELS, CHANNELS, 1))
            self.add_module(f"bn_end{i}", nn.BatchNorm2d(CHANNELS))
            self.add_module(f"l{i}", nn.Conv2d(CHANNELS, LANDMARKS, 1))
            if i < hourglasses - 1:
                self.add_module(f"bl{i}", nn.Conv2d(CHANNELS, CHANNELS, 1))
                self.add_module(f"al{i}", nn.Conv2d(LANDMARKS, CHANNELS, 1))

    def forward(self, faces: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B 68 M M"]:
        """The last hourglass's maps, about 1 where a landmark is; M = S / 4.

        Args:
            faces: RGB in [0, 1], cut by :func:`fan_crop`; 256 pixels a side in training.
        """
        x = F.avg_pool2d(self.conv2(self.bn1(self.conv1(faces)).relu()), 2)
        x, maps = self.conv4(self.conv3(x)), x
        for i in range(self._hourglasses):
            features = self.get_submodule(f"top_m_{i}")(self.get_submodule(f"m{i}")(x))
            features = self.get_submodule(f"bn_end{i}")(self.get_submodule(f"conv_last{i}")(features)).relu()
            maps = self.get_submodule(f"l{i}")(features)
            if i < self._hourglasses - 1:
                x = x + self.get_submodule(f"bl{i}")(features) + self.get_submodule(f"al{i}")(maps)
        return maps

    @classmethod
    def open(cls, path: Path | None = None) -> "Fan":
        """The published network, frozen; ``path`` defaults to the model folder's file.

        Raises:
            UserError: if the file is missing or does not fit.
        """
        return load_frozen(cls(), path or model_path("fan"))


def fan_crop(ibug68: Float[Tensor, "B 68 2"]) -> tuple[Float[Tensor, "B 2"], Float[Tensor, " B"]]:
    """Centre and half side of the network's crop around a face, in the units of the landmarks (y down).

    Assumption: the published rule starts from a face detector's box; here that box is the landmarks', with room for a
    forehead.
    """
    low, high = ibug68.amin(1), ibug68.amax(1)
    top = low[:, 1] - FOREHEAD * (high - low)[:, 1]
    height, width = high[:, 1] - top, (high - low)[:, 0]
    centre = torch.stack([(low + high)[:, 0] / 2, (top + high[:, 1]) / 2 - RAISED * height], 1)
    return centre, WIDER * (width + height) / 2
