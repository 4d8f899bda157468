"""Blocks of published networks under their published names: residual stages and hourglasses."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

DEPTH = 4
"""So many times an hourglass halves its features."""


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


class Block(nn.Module):
    """Three 3x3 convolutions whose outputs are stacked, around a shortcut (the hierarchical block)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        half, quarter = channels_out // 2, channels_out // 4
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, half, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, quarter, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(quarter)
        self.conv3 = nn.Conv2d(quarter, quarter, 3, padding=1, bias=False)
        self.downsample = None
        if channels_in != channels_out:
            self.downsample = nn.Sequential(
                nn.BatchNorm2d(channels_in), nn.ReLU(), nn.Conv2d(channels_in, channels_out, 1, bias=False)
            )

    def forward(self, x: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O H W"]:
        """Features of the same size."""
        first = self.conv1(self.bn1(x).relu())
        second = self.conv2(self.bn2(first).relu())
        third = self.conv3(self.bn3(second).relu())
        return torch.cat([first, second, third], 1) + (x if self.downsample is None else self.downsample(x))


class Hourglass(nn.Module):
    """Downsampling by halves and upsampling, with a branch kept at every size; level 4 is the outermost."""

    def __init__(self, channels: int, halve: Callable[[Tensor, int], Tensor]) -> None:
        """``halve``: ``max_pool2d`` (EmoNet) or ``avg_pool2d`` (FAN); the weights do not determine which."""
        super().__init__()
        self._halve = halve
        for level in range(DEPTH, 0, -1):
            for name in ("b1", "b2", "b3"):
                self.add_module(f"{name}_{level}", Block(channels, channels))
        self.b2_plus_1 = Block(channels, channels)

    def forward(self, x: Float[Tensor, "B C H W"], level: int = DEPTH) -> Float[Tensor, "B C H W"]:
        """Features of the same size; sides are multiples of 16."""
        kept = self.get_submodule(f"b1_{level}")(x)
        low = self.get_submodule(f"b2_{level}")(self._halve(x, 2))
        low = self.forward(low, level - 1) if level > 1 else self.b2_plus_1(low)
        return kept + F.interpolate(self.get_submodule(f"b3_{level}")(low), scale_factor=2.0)
