"""Operations of :mod:`~emotalking.networks.mediapipe.graph`.

Each is made from its settings and then called with tensors. The meaning is that of TFLite's operators of the same
names; ``region_matrix``, ``sample_region`` and ``transform_points`` are MediaPipe's own, with which its face mesh looks
at the eyes and lips again (Grishchenko et al. 2020, arXiv 2006.10962).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Work = Callable[..., Tensor]

_ACTIVATIONS: dict[str | None, Callable[[Tensor], Tensor]] = {
    None: lambda x: x,
    "relu": torch.relu,
    "relu6": F.relu6,
}


def _first(x: Tensor) -> Tensor:
    """Channels first, in the same memory."""
    return x.permute(0, 3, 1, 2)


def _last(x: Tensor) -> Tensor:
    """Channels last."""
    return x.permute(0, 2, 3, 1)


def _convolution(
    size: list[int], stride: list[int], padding: list[int], groups: int, activation: str | None = None
) -> Work:
    left, right, top, bottom = padding
    even = left == right and top == bottom
    finish = _ACTIVATIONS[activation]

    def work(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        x = _first(x if even else F.pad(x, (0, 0, *padding)))
        return _last(finish(F.conv2d(x, weight, bias, stride, (top, left) if even else 0, 1, groups)))

    def pointwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return finish(F.linear(x, weight[..., 0, 0], bias))

    return pointwise if size == [1, 1] and stride == [1, 1] and groups == 1 else work


def _transposed_convolution(stride: list[int]) -> Work:
    return lambda x, weight, bias: _last(F.conv_transpose2d(_first(x), weight, bias, stride))


def _pool(pool: Callable[..., Tensor]) -> Callable[..., Work]:
    def make(size: list[int], stride: list[int]) -> Work:
        return lambda x: _last(pool(_first(x), size, stride))

    return make


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Work]:
    def make(activation: str | None = None) -> Work:
        finish = _ACTIVATIONS[activation]
        return lambda a, b: finish(function(a, b))

    return make


def _plain(function: Work) -> Callable[[], Work]:
    return lambda: function


def _pad(padding: list[int]) -> Work:
    return lambda x: F.pad(x, padding)


def _resize(size: list[int]) -> Work:
    return lambda x: _last(F.interpolate(_first(x), size, mode="bilinear", align_corners=False))


def _depth_to_space(block: int) -> Work:
    def work(x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        x = x.reshape(b, h, w, block, block, c // block**2).permute(0, 1, 3, 2, 4, 5)
        return x.reshape(b, h * block, w * block, c // block**2)

    return work


def _reshape(shape: list[int]) -> Work:
    return lambda x: x.reshape(-1, *shape[1:])  # the stored shape is that of a batch of one


def _concatenate(axis: int) -> Work:
    def work(*parts: Tensor) -> Tensor:
        count = max(map(len, parts))  # a constant is stored once, for a batch of any size
        return torch.cat([part.expand(count, *part.shape[1:]) for part in parts], axis)

    return work


def _transpose(axes: list[int]) -> Work:
    return lambda x: x.permute(axes)


def _reduction(function: Callable[..., Tensor]) -> Callable[..., Work]:
    def make(axes: list[int], keep: bool) -> Work:
        return lambda x: function(x, axes, keepdim=keep)

    return make


def _slice(begin: list[int], size: list[int], shape: list[int]) -> Work:
    places = tuple(slice(first, first + count) for first, count in zip(begin[1:], size[1:], strict=True))
    return lambda x: x[:, *places].reshape(-1, *shape[1:])


def _linear(activation: str | None = None) -> Work:
    finish = _ACTIVATIONS[activation]
    return lambda x, weight, bias: finish(F.linear(x.reshape(-1, weight.shape[1]), weight, bias))


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    return _last(F.prelu(_first(x), slope.reshape(-1)))


def _region_matrix(**settings: Any) -> Work:
    """Matrices [B, 4, 4] from pixels of a region around some points to pixels of the image that the points lie in.

    The region is turned so that the line between two points is level, encloses the points and is ``scale`` times as
    large.
    """
    left, right = settings["left_rotation_idx"], settings["right_rotation_idx"]
    size = torch.tensor([float(settings["output_width"]), float(settings["output_height"])])
    scale = torch.tensor([settings["scale_x"], settings["scale_y"]]) / size
    target, subset = settings["target_rotation_radians"], torch.tensor(settings["subset_idxs"]).flatten()

    def work(points: Tensor) -> Tensor:
        xy, on = points[..., :2], points.device
        x, y = (xy[:, right] - xy[:, left]).unbind(-1)
        angle = torch.atan2(y, x) - target
        cos, sin = torch.cos(angle), torch.sin(angle)
        back = torch.stack([cos, -sin, sin, cos], -1).reshape(-1, 2, 2)  # from the level region to the image
        level = xy[:, subset.to(on)] @ back
        low, high = level.amin(1), level.amax(1)
        linear = back * (scale.to(on) * (high - low))[:, None]
        out = torch.eye(4, device=on).repeat(len(xy), 1, 1)
        out[:, :2, :2] = linear
        out[:, :2, 3] = (back @ ((low + high) / 2)[..., None] - linear @ (size / 2).to(on)[:, None])[..., 0]
        return out

    return work


def _sample_region(output_height: int, output_width: int) -> Work:
    """Features [B, h, w, C] of a region, bilinear and zero outside."""
    rows, columns = torch.meshgrid(torch.arange(output_height), torch.arange(output_width), indexing="ij")
    places = torch.stack([columns, rows], -1).reshape(-1, 2) + 0.5

    def work(features: Tensor, matrix: Tensor) -> Tensor:
        size = torch.tensor([features.shape[2], features.shape[1]], device=features.device)
        at = places.to(features.device) @ matrix[:, :2, :2].transpose(1, 2) + matrix[:, None, :2, 3]
        at = at.reshape(-1, output_height, output_width, 2)
        outside = ((at < 0.5) | (at > size - 0.5)).any(-1)
        found = F.grid_sample(_first(features), at / size * 2 - 1, "bilinear", "border", False)
        return _last(found).masked_fill(outside[..., None], 0.0)

    return work


def _transform_points(points: Tensor, matrix: Tensor) -> Tensor:
    return points @ matrix[:, :2, :2].transpose(1, 2) + matrix[:, None, :2, 3]


def _refine(groups: list[list[int]], lids: int) -> Work:
    """All points of faces [B, K, 3]: lips and eyes as in the second look, then the irises, as deep as the lids."""
    places = [torch.tensor(group) for group in groups]

    def work(mesh: Tensor, *looks: Tensor) -> Tensor:
        on = [place.to(mesh.device) for place in places]
        face = mesh.reshape(len(mesh), -1, 3).clone()
        for place, look in zip(on, looks, strict=False):
            face[:, place, :2] = look.reshape(len(mesh), -1, 2)
        irises = []
        for place, iris in zip(on[1:], looks[len(on) :], strict=True):
            xy = iris.reshape(len(mesh), -1, 2)
            depth = face[:, place[:lids], 2].mean(1)[:, None, None]
            irises.append(torch.cat([xy, depth.expand(-1, xy.shape[1], 1)], -1))
        return torch.cat([face, *irises], 1)

    return work


OPERATIONS: dict[str, Callable[..., Work]] = {
    "convolution": _convolution,
    "transposed_convolution": _transposed_convolution,
    "linear": _linear,
    "max_pool": _pool(F.max_pool2d),
    "average_pool": _pool(F.avg_pool2d),
    "pad": _pad,
    "resize": _resize,
    "depth_to_space": _depth_to_space,
    "reshape": _reshape,
    "concatenate": _concatenate,
    "transpose": _transpose,
    "slice": _slice,
    "mean": _reduction(torch.mean),
    "sum": _reduction(torch.sum),
    "add": _binary(torch.add),
    "sub": _binary(torch.sub),
    "mul": _binary(torch.mul),
    "div": _binary(torch.div),
    "squared_difference": _binary(lambda a, b: (a - b) ** 2),
    "neg": _plain(torch.neg),
    "sqrt": _plain(torch.sqrt),
    "rsqrt": _plain(torch.rsqrt),
    "sigmoid": _plain(torch.sigmoid),
    "hard_swish": _plain(F.hardswish),
    "relu": _plain(torch.relu),
    "prelu": _plain(_prelu),
    "region_matrix": _region_matrix,
    "sample_region": _sample_region,
    "refine": _refine,
    "transform_points": _plain(_transform_points),
}
"""Makers of the operations by name."""
