"""The networks once more, as plain formulas on the checkpoint's own names: what the modules must agree with."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = dict[str, Tensor]


def norm(w: Weights, name: str, x: Tensor) -> Tensor:
    """BatchNorm in evaluation, written out."""
    shape = (1, -1, 1, 1) if x.dim() == 4 else (1, -1)
    mean, variance, scale, offset = (
        w[f"{name}.{field}"].view(shape) for field in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(variance + 1e-5) * scale + offset


def conv(w: Weights, name: str, x: Tensor, stride: int = 1) -> Tensor:
    """A convolution that keeps the size (or divides it by the stride)."""
    kernel = w[f"{name}.weight"]
    return F.conv2d(x, kernel, w.get(f"{name}.bias"), stride, kernel.shape[-1] // 2)


def folded(w: Weights, name: str, norm_name: str, x: Tensor, stride: int = 1) -> Tensor:
    """A convolution with its BatchNorm folded into one kernel."""
    scale = w[f"{norm_name}.weight"] / torch.sqrt(w[f"{norm_name}.running_var"] + 1e-5)
    kernel = w[f"{name}.weight"] * scale.view(-1, 1, 1, 1)
    bias = w[f"{norm_name}.bias"] - w[f"{norm_name}.running_mean"] * scale
    return F.conv2d(x, kernel, bias, stride, kernel.shape[-1] // 2)


def bottom_up(w: Weights, layer: str, x: Tensor, stride: int, convs: int) -> Tensor:
    """A ResNet stage of blocks with two or three convolutions; the first 3x3 one carries the stride."""
    block = 0
    while f"{layer}.{block}.conv1.weight" in w:
        name, step = f"{layer}.{block}", stride if block == 0 else 1
        y = x
        for i in range(1, convs + 1):
            here = step if i == (1 if convs == 2 else 2) else 1
            y = folded(w, f"{name}.conv{i}", f"{name}.bn{i}", y, here)
            y = y if i == convs else y.clamp(min=0)
        if f"{name}.downsample.0.weight" in w:
            x = folded(w, f"{name}.downsample.0", f"{name}.downsample.1", x, step)
        x, block = (x + y).clamp(min=0), block + 1
    return x


def bisenet(w: Weights, x: Tensor) -> Tensor:
    """Scores at the input's size."""

    def block(name: str, x: Tensor) -> Tensor:
        return folded(w, f"{name}.conv", f"{name}.bn", x).clamp(min=0)

    def attend(name: str, x: Tensor) -> Tensor:
        x = block(f"{name}.conv", x)
        whole = F.adaptive_avg_pool2d(x, 1)
        return x * torch.sigmoid(norm(w, f"{name}.bn_atten", conv(w, f"{name}.conv_atten", whole)))

    size = x.shape[2:]
    trunk = "cp.resnet"
    x = F.max_pool2d(folded(w, f"{trunk}.conv1", f"{trunk}.bn1", x, 2).clamp(min=0), 3, 2, 1)
    levels = []
    for layer in range(1, 5):
        x = bottom_up(w, f"{trunk}.layer{layer}", x, 1 if layer == 1 else 2, 2)
        levels.append(x)
    _, eighth, sixteenth, last = levels
    context = attend("cp.arm32", last) + block("cp.conv_avg", F.adaptive_avg_pool2d(last, 1))
    context = block("cp.conv_head32", context.repeat_interleave(2, 2).repeat_interleave(2, 3))
    context = attend("cp.arm16", sixteenth) + context
    context = block("cp.conv_head16", context.repeat_interleave(2, 2).repeat_interleave(2, 3))
    mixed = block("ffm.convblk", torch.cat([eighth, context], 1))
    weight = conv(w, "ffm.conv1", F.adaptive_avg_pool2d(mixed, 1)).clamp(min=0)
    mixed = mixed * (1 + torch.sigmoid(conv(w, "ffm.conv2", weight)))
    scores = conv(w, "conv_out.conv_out", block("conv_out.conv", mixed))
    return F.interpolate(scores, size, mode="bilinear", align_corners=True)


def easyportrait(w: Weights, x: Tensor) -> Tensor:
    """Scores at the input's size, a multiple of 32."""
    size = x.shape[2:]
    for i, stride in ((0, 2), (3, 1), (6, 1)):
        x = folded(w, f"backbone.stem.{i}", f"backbone.stem.{i + 1}", x, stride).clamp(min=0)
    x = F.max_pool2d(x, 3, 2, 1)
    levels = []
    for layer in range(1, 5):
        x = bottom_up(w, f"backbone.layer{layer}", x, 1 if layer == 1 else 2, 3)
        levels.append(conv(w, f"neck.lateral_convs.{layer - 1}.conv", x))
    for i in (3, 2, 1):
        levels[i - 1] = levels[i - 1] + levels[i].repeat_interleave(2, 2).repeat_interleave(2, 3)
    total = torch.zeros(())
    for i, level in enumerate(levels):
        y = conv(w, f"neck.fpn_convs.{i}.conv", level)
        for step in range(max(i, 1)):
            name = f"decode_head.scale_heads.{i}.{2 * step}"
            y = folded(w, f"{name}.conv", f"{name}.bn", y).clamp(min=0)
            if i:
                y = F.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=False)
        total = total + y
    scores = conv(w, "decode_head.conv_seg", total)
    return F.interpolate(scores, size, mode="bilinear", align_corners=False)


def split_block(w: Weights, name: str, x: Tensor) -> Tensor:
    """FAN's block: the outputs of three convolutions side by side."""
    parts, y = [], x
    for i in (1, 2, 3):
        y = conv(w, f"{name}.conv{i}", norm(w, f"{name}.bn{i}", y).clamp(min=0))
        parts.append(y)
    if f"{name}.downsample.2.weight" in w:
        x = conv(w, f"{name}.downsample.2", norm(w, f"{name}.downsample.0", x).clamp(min=0))
    return torch.cat(parts, 1) + x


def hourglass(w: Weights, name: str, x: Tensor, pool: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Four halvings, and back."""
    kept = []
    for level in (4, 3, 2, 1):
        kept.append(split_block(w, f"{name}.b1_{level}", x))
        x = split_block(w, f"{name}.b2_{level}", pool(x, 2))
    x = split_block(w, f"{name}.b2_plus_1", x)
    for level in (1, 2, 3, 4):
        x = split_block(w, f"{name}.b3_{level}", x).repeat_interleave(2, 2).repeat_interleave(2, 3) + kept.pop()
    return x


def fan(w: Weights, x: Tensor, hourglasses: int) -> Tensor:
    """The last heat maps."""
    x = norm(w, "bn1", conv(w, "conv1", x, 2)).clamp(min=0)
    x = F.avg_pool2d(split_block(w, "conv2", x), 2)
    x = split_block(w, "conv4", split_block(w, "conv3", x))
    maps = x
    for i in range(hourglasses):
        y = split_block(w, f"top_m_{i}", hourglass(w, f"m{i}", x, F.avg_pool2d))
        y = norm(w, f"bn_end{i}", conv(w, f"conv_last{i}", y)).clamp(min=0)
        maps = conv(w, f"l{i}", y)
        if i < hourglasses - 1:
            x = x + conv(w, f"bl{i}", y) + conv(w, f"al{i}", maps)
    return maps


def emonet(w: Weights, x: Tensor) -> tuple[Tensor, Tensor]:
    """The last layer's values and the heat maps."""
    block = partial(split_block, w)
    x = folded(w, "conv1", "bn1", x, 2) + (
        w["conv1.bias"] * w["bn1.weight"] / torch.sqrt(w["bn1.running_var"] + 1e-5)
    ).view(1, -1, 1, 1)
    x = block("conv4", block("conv3", F.max_pool2d(block("conv2", x.clamp(min=0)), 2, 2)))
    features, previous, maps = [], x, x
    for i in (0, 1):
        y = block(f"top_m_{i}", hourglass(w, f"m{i}", previous, F.max_pool2d))
        y = norm(w, f"bn_end{i}", conv(w, f"conv_last{i}", y)).clamp(min=0)
        maps = conv(w, f"l{i}", y)
        if i == 0:
            y = conv(w, "bl0", y)
            previous = previous + y + conv(w, "al0", maps)
        features.append(y)
    y = torch.cat([x, *(f * maps.sum(1, keepdim=True) for f in features)], 1)
    y = conv(w, "conv1x1_input_emo_2", y)
    for i in (0, 2, 4, 6):
        y = F.max_pool2d(block(f"emo_net_2.{i}", y), 2, 2)
    y = F.avg_pool2d(y, y.shape[-1]).flatten(1)
    y = norm(w, "emo_fc_2.1", F.linear(y, w["emo_fc_2.0.weight"], w["emo_fc_2.0.bias"])).clamp(min=0)
    return F.linear(y, w["emo_fc_2.3.weight"], w["emo_fc_2.3.bias"]), maps


def face_normals(w: Weights, x: Tensor) -> Tensor:
    """Normals that are not yet of unit length."""

    def block(name: str, x: Tensor) -> Tensor:
        return conv(w, f"{name}.0", x).clamp(min=0)

    full = block("conv_original_size1", block("conv_original_size0", x))
    half = folded(w, "layer0.0", "layer0.1", x, 2).clamp(min=0)
    skips = [full, half]
    y = F.max_pool2d(half, 3, 2, 1)
    for layer, stride in (("layer1.1", 1), ("layer2", 2), ("layer3", 2), ("layer4", 2)):
        y = bottom_up(w, layer, y, stride, 2)
        skips.append(y)
    y = block("layer4_1x1", skips.pop())
    for i in (3, 2, 1, 0, -1):
        y = F.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=True)
        skip = skips.pop()
        skip = block(f"layer{i}_1x1", skip) if i >= 0 else skip
        joined = torch.where(y[:, -skip.shape[1] :] > skip, y[:, -skip.shape[1] :], skip)
        y = torch.cat([y[:, : y.shape[1] - skip.shape[1]], joined], 1)
        y = block(f"conv_up{i}" if i >= 0 else "conv_original_size2", y)
    return conv(w, "conv_last", y)
