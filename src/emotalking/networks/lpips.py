"""LPIPS v0.1, a perceptual distance of images (Zhang et al. 2018, arXiv 1801.03924).

Written from the paper and the layout of the public weights: features of a classifier trained on ImageNet, unit length
per position, squared differences weighted by learned heads.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from emotalking.networks.registry import model_path, models
from emotalking.networks.weights import load_frozen

Backbone = Literal["alex", "vgg", "squeeze"]
BACKBONES: tuple[Backbone, ...] = ("alex", "vgg", "squeeze")
"""In the order in which "auto" takes the first whose weights are found; the paper measures with "alex", and "squeeze"
comes with this package."""

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Mean and deviation of RGB in [-1, 1], as the heads were trained."""
EPSILON = 1e-10


class _Fire(nn.Module):
    """SqueezeNet's module: few 1x1 filters, then 1x1 and 3x3 ones side by side (arXiv 1602.07360)."""

    def __init__(self, channels_in: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels_in, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x), self.expand3x3(x)], 1).relu()


def _alex() -> list[nn.Module]:
    return [
        nn.Conv2d(3, 64, 11, 4, 2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    ]


def _vgg() -> list[nn.Module]:
    layers: list[nn.Module] = []
    channels = 3
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        if layers:
            layers.append(nn.MaxPool2d(2))
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
    return layers


def _squeeze() -> list[nn.Module]:
    return [
        nn.Conv2d(3, 64, 3, 2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        _Fire(64, 16, 64),
        _Fire(128, 16, 64),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        _Fire(128, 32, 128),
        _Fire(256, 32, 128),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        _Fire(256, 48, 192),
        _Fire(384, 48, 192),
        _Fire(384, 64, 256),
        _Fire(512, 64, 256),
    ]


@dataclass(frozen=True)
class _Layout:
    """Layers of a backbone after which features are taken, and the channels of these features."""

    network: str
    """Name in ``models.toml``."""
    taps: tuple[int, ...]
    channels: tuple[int, ...]


_LAYOUTS: dict[str, _Layout] = {
    "alex": _Layout("alexnet", (1, 4, 7, 9, 11), (64, 192, 384, 256, 256)),
    "vgg": _Layout("vgg16", (3, 8, 15, 22, 29), (64, 128, 256, 512, 512)),
    "squeeze": _Layout("squeezenet", (1, 4, 7, 9, 10, 11, 12), (64, 128, 256, 384, 384, 512, 512)),
}
_LAYERS = {"alex": _alex, "vgg": _vgg, "squeeze": _squeeze}


def files_of(backbone: Backbone) -> tuple[str, str]:
    """Names in ``models.toml`` of the classifier and the learned heads."""
    return _LAYOUTS[backbone].network, f"lpips_{backbone}"


def found_backbone() -> Backbone:
    """The first of :data:`BACKBONES` whose files are found; squeeze's always are."""
    for name in BACKBONES:
        if all(models()[file].find() for file in files_of(name)):
            return name
    return "squeeze"


def licences_of(backbone: Backbone) -> dict[str, str]:
    """Licences of the files that a training with this distance uses, by title."""
    return {models()[name].title: models()[name].licence for name in files_of(backbone)}


class _Classifier(nn.Module):
    """The convolutions of a torchvision classifier."""

    UNUSED = ("classifier.",)

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.features = nn.Sequential(*_LAYERS[backbone]())
        self._taps = _LAYOUTS[backbone].taps

    def forward(self, x: Tensor) -> list[Tensor]:
        collected = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self._taps:
                collected.append(x)
        return collected


def _length(features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 1 h w"]:
    # The vector norm, unlike the root of a sum of squares, has a finite gradient at zero.
    return torch.linalg.vector_norm(features, dim=1, keepdim=True)


class _Difference(torch.autograd.Function):
    """Weighted squared differences of features, brought to unit length, from ``units``: the mean over the positions.

    Its gradient is written out, because torch's own reads and writes all features twice as often.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, units: Tensor, weights: Tensor) -> Tensor:
        length = _length(features)
        own = features / (length + EPSILON)
        difference = own - units
        ctx.save_for_backward(length, own, difference, weights)
        return F.conv2d(difference.square(), weights).mean((1, 2, 3))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        length, own, difference, weights = ctx.saved_tensors
        positions = length.shape[2] * length.shape[3]
        slope = difference * (weights * (2.0 / positions)) * grad[:, None, None, None]
        d_units = -slope if ctx.needs_input_grad[1] else None
        if not ctx.needs_input_grad[0]:
            return None, d_units, None
        whole = length + EPSILON
        along = (slope * own).sum(1, keepdim=True) * torch.where(length > 0, whole / length, 0.0)
        return slope.addcmul_(own, along, value=-1.0).div_(whole), d_units, None


class _Heads(nn.Module):
    """Learned weights, >= 0, of the channels of every tap, under the published names ``lin{i}.model.1.weight``."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        for index, count in enumerate(channels):
            head = nn.Module()
            # The public layout keeps a drop-out, which has no effect here, at index 0.
            head.model = nn.Sequential(nn.Identity(), nn.Conv2d(count, 1, 1, bias=False))
            self.add_module(f"lin{index}", head)

    def forward(self, features: list[Tensor], units: list[Tensor]) -> Tensor:
        parts = []
        for index, (own, other) in enumerate(zip(features, units, strict=True)):
            parts.append(_Difference.apply(own, other, self.get_parameter(f"lin{index}.model.1.weight")))
        return torch.stack(parts).sum(0)


class Lpips(nn.Module):
    """The distance with one backbone; weights are frozen, gradients flow to the images.

    Example:
        >>> distance = Lpips.open("squeeze")
        >>> distance(image, truth)  # [B, H, W, 3] in [0, 1] -> [B]
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.shift: Tensor
        self.scale: Tensor
        self.name = f"LPIPS ({backbone})"
        self.classifier = _Classifier(backbone)
        self.heads = _Heads(_LAYOUTS[backbone].channels)
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    @classmethod
    def open(
        cls, backbone: Backbone = "alex", network_path: Path | None = None, heads_path: Path | None = None
    ) -> "Lpips":
        """The published distance; paths default to the model folder's files, then this package's.

        Raises:
            InputError: if a file is missing or does not fit.
        """
        distance = cls(backbone)
        network, heads = files_of(backbone)
        load_frozen(distance.classifier, network_path or model_path(network), _Classifier.UNUSED)
        load_frozen(distance.heads, heads_path or model_path(heads))
        return distance

    def forward(self, image: Float[Tensor, "B H W 3"], truth: Float[Tensor, "B H W 3"]) -> Float[Tensor, "B"]:
        """Distance of each pair of RGB images in [0, 1]; 0 for equal ones, about 1 for unrelated ones.

        Args:
            image: 32 pixels a side or more (the backbones halve the size five times).
            truth: of the same shape.
        """
        first, second = (self.classifier(self._normalised(x)) for x in (image, truth))
        return self.heads(first, [features / (_length(features) + EPSILON) for features in second])

    def _normalised(self, image: Tensor) -> Tensor:
        """The classifier's input."""
        return (image.permute(0, 3, 1, 2) * 2 - 1 - self.shift) / self.scale
