"""Residual blocks and stages (He et al. 2016, arXiv 1512.03385) under the names that torchvision gave them."""

from jaxtyping import Float
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut (ResNet-18)."""

    expansion = 1

    def __init__(self, channels_in: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _projection(channels_in, width, stride)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H2 W2"]:
        """Features, at half the size if the stride is 2."""
        residual = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (residual + (x if self.downsample is None else self.downsample(x))).relu()


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions around a shortcut (ResNet-50); the 3x3 one carries the stride."""

    expansion = 4

    def __init__(self, channels_in: int, width: int, stride: int = 1) -> None:
        super().__init__()
        channels_out = width * self.expansion
        self.conv1 = nn.Conv2d(channels_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, channels_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels_out)
        self.downsample = _projection(channels_in, channels_out, stride)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H2 W2"]:
        """Features, at half the size if the stride is 2."""
        residual = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())).relu()
        residual = self.bn3(self.conv3(residual))
        return (residual + (x if self.downsample is None else self.downsample(x))).relu()


def _projection(channels_in: int, channels_out: int, stride: int) -> nn.Sequential | None:
    """The shortcut where size or channels change."""
    if stride == 1 and channels_in == channels_out:
        return None
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out))


def stage(
    block: type[BasicBlock] | type[Bottleneck], channels_in: int, width: int, count: int, stride: int
) -> nn.Sequential:
    """``count`` blocks, the first with the stride."""
    rest = (block(width * block.expansion, width) for _ in range(count - 1))
    return nn.Sequential(block(channels_in, width, stride), *rest)
