"""Face identity: ResNet-50 trained on VGGFace2 (Cao et al. 2018, arXiv 1710.08092), as EmoStyle uses it.

Written from the paper and the names and shapes of the widespread conversion ``resnet50_ft_weight.pkl`` (a pickle of a
dict of numpy arrays, which is read without executing anything in it; no file was available). In these networks, which
come from Caffe, the first 1x1 convolution of a block carries the stride.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from emotalking.networks.blocks import Bottleneck, stage
from emotalking.networks.registry import model_path
from emotalking.networks.weights import load_frozen

SIZE = 224
"""Side of the face crop in pixels."""
MEAN_BGR = (91.4953, 103.8827, 131.0912)
"""Mean of images in [0, 255]."""
WIDTH = 2048
"""Numbers of an embedding."""
MIDDLE = 0.7
"""EmoStyle's crop: this share of the FFHQ-aligned crop, around its centre."""


class _CaffeBottleneck(Bottleneck):
    """The stride in the first convolution instead of the second."""

    def __init__(self, channels_in: int, width: int, stride: int = 1) -> None:
        super().__init__(channels_in, width, stride)
        self.conv1.stride, self.conv2.stride = self.conv2.stride, self.conv1.stride


class VggFace2(nn.Module):
    """Embeddings of faces."""

    UNUSED = ("fc.",)
    """The classifier over 8631 people."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = stage(_CaffeBottleneck, 64, 64, 3, 1)
        self.layer2 = stage(_CaffeBottleneck, 256, 128, 4, 2)
        self.layer3 = stage(_CaffeBottleneck, 512, 256, 6, 2)
        self.layer4 = stage(_CaffeBottleneck, 1024, 512, 3, 2)
        self.register_buffer("mean", torch.tensor(MEAN_BGR).view(1, 3, 1, 1), persistent=False)
        self.mean: Tensor

    def forward(self, faces: Float[Tensor, "B 3 224 224"]) -> Float[Tensor, "B 2048"]:
        """Embeddings of unit length of RGB faces in [0, 1]."""
        x = faces.flip(1) * 255 - self.mean
        x = F.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, ceil_mode=True)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return F.normalize(F.avg_pool2d(x, 7).flatten(1))

    @classmethod
    def open(cls, path: Path | None = None) -> "VggFace2":
        """The published network, frozen; ``path`` defaults to the model folder's file.

        Raises:
            UserError: if the file is missing or does not fit.
        """
        return load_frozen(cls(), path or model_path("vggface2"), cls.UNUSED)
