"""Names and shapes in the public checkpoints, written out as data: what the loaders must accept, to the last key."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

Layout = dict[str, tuple[int, ...]]


def conv(name: str, channels_in: int, channels_out: int, kernel: int, bias: bool = False) -> Layout:
    """A convolution."""
    layout: Layout = {f"{name}.weight": (channels_out, channels_in, kernel, kernel)}
    return layout | ({f"{name}.bias": (channels_out,)} if bias else {})


def norm(name: str, channels: int) -> Layout:
    """BatchNorm."""
    fields = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{field}": (channels,) for field in fields} | {f"{name}.num_batches_tracked": ()}


def linear(name: str, channels_in: int, channels_out: int) -> Layout:
    """A full connection."""
    return {f"{name}.weight": (channels_out, channels_in), f"{name}.bias": (channels_out,)}


def merged(layouts: Iterable[Layout]) -> Layout:
    """All together."""
    return {name: shape for layout in layouts for name, shape in layout.items()}


def resnet18(stem: tuple[str, str], layers: tuple[str, ...]) -> Layout:
    """torchvision's ResNet-18 without the classifier: names of (conv1, bn1) and of layer1 to layer4."""
    parts = [conv(stem[0], 3, 64, 7), norm(stem[1], 64)]
    widths = (64, 64, 128, 256, 512)
    for layer, before, width in zip(layers, widths, widths[1:], strict=False):
        for block, channels in ((0, before), (1, width)):
            name = f"{layer}.{block}"
            parts += [conv(f"{name}.conv1", channels, width, 3), norm(f"{name}.bn1", width)]
            parts += [conv(f"{name}.conv2", width, width, 3), norm(f"{name}.bn2", width)]
        if before != width:
            parts += [conv(f"{layer}.0.downsample.0", before, width, 1), norm(f"{layer}.0.downsample.1", width)]
    return merged(parts)


def resnet50(prefix: str) -> Layout:
    """layer1 to layer4 of torchvision's ResNet-50."""
    parts: list[Layout] = []
    channels = 64
    for layer, (width, count) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), start=1):
        for block in range(count):
            name, before = f"{prefix}layer{layer}.{block}", channels if block == 0 else 4 * width
            parts += [conv(f"{name}.conv1", before, width, 1), norm(f"{name}.bn1", width)]
            parts += [conv(f"{name}.conv2", width, width, 3), norm(f"{name}.bn2", width)]
            parts += [conv(f"{name}.conv3", width, 4 * width, 1), norm(f"{name}.bn3", 4 * width)]
        parts += [conv(f"{prefix}layer{layer}.0.downsample.0", channels, 4 * width, 1)]
        parts += [norm(f"{prefix}layer{layer}.0.downsample.1", 4 * width)]
        channels = 4 * width
    return merged(parts)


def split_block(name: str, channels_in: int, channels_out: int) -> Layout:
    """A block of FAN."""
    half, quarter = channels_out // 2, channels_out // 4
    layout = norm(f"{name}.bn1", channels_in) | conv(f"{name}.conv1", channels_in, half, 3)
    layout |= norm(f"{name}.bn2", half) | conv(f"{name}.conv2", half, quarter, 3)
    layout |= norm(f"{name}.bn3", quarter) | conv(f"{name}.conv3", quarter, quarter, 3)
    if channels_in != channels_out:
        layout |= norm(f"{name}.downsample.0", channels_in)
        layout |= conv(f"{name}.downsample.2", channels_in, channels_out, 1)
    return layout


def split_trunk() -> Layout:
    """FAN before its hourglasses."""
    parts = [conv("conv1", 3, 64, 7, bias=True), norm("bn1", 64)]
    return merged(
        [*parts, *(split_block(f"conv{i}", *ends) for i, ends in ((2, (64, 128)), (3, (128, 128)), (4, (128, 256))))]
    )


def hourglass(i: int) -> Layout:
    """Hourglass ``i`` of FAN with its heat maps."""
    names = [f"b{part}_{level}" for level in (4, 3, 2, 1) for part in (1, 2, 3)]
    parts = [split_block(f"m{i}.{name}", 256, 256) for name in (*names, "b2_plus_1")]
    parts += [split_block(f"top_m_{i}", 256, 256)]
    parts += [conv(f"conv_last{i}", 256, 256, 1, bias=True), norm(f"bn_end{i}", 256)]
    return merged([*parts, conv(f"l{i}", 256, 68, 1, bias=True)])


def bisenet() -> Layout:
    """79999_iter.pth: 191 tensors."""

    def block(name: str, channels_in: int, channels_out: int, kernel: int) -> Layout:
        return conv(f"{name}.conv", channels_in, channels_out, kernel) | norm(f"{name}.bn", channels_out)

    def attention(name: str, channels: int) -> Layout:
        parts = block(f"{name}.conv", channels, 128, 3) | conv(f"{name}.conv_atten", 128, 128, 1)
        return parts | norm(f"{name}.bn_atten", 128)

    def head(name: str, channels: int, middle: int) -> Layout:
        return block(f"{name}.conv", channels, middle, 3) | conv(f"{name}.conv_out", middle, 19, 1)

    trunk = "cp.resnet."
    return merged(
        [
            resnet18((f"{trunk}conv1", f"{trunk}bn1"), tuple(f"{trunk}layer{i}" for i in range(1, 5))),
            attention("cp.arm16", 256),
            attention("cp.arm32", 512),
            block("cp.conv_head32", 128, 128, 3),
            block("cp.conv_head16", 128, 128, 3),
            block("cp.conv_avg", 512, 128, 1),
            block("ffm.convblk", 256, 256, 1),
            conv("ffm.conv1", 256, 64, 1),
            conv("ffm.conv2", 64, 256, 1),
            head("conv_out", 256, 256),
            head("conv_out16", 128, 64),
            head("conv_out32", 128, 64),
        ]
    )


def easyportrait() -> Layout:
    """``state_dict`` of fpn-fp-512.pth."""
    parts: list[Layout] = []
    for i, (channels_in, channels_out) in zip((0, 3, 6), ((3, 32), (32, 32), (32, 64)), strict=True):
        parts += [conv(f"backbone.stem.{i}", channels_in, channels_out, 3)]
        parts += [norm(f"backbone.stem.{i + 1}", channels_out)]
    parts += [resnet50("backbone.")]
    for i, before in enumerate((256, 512, 1024, 2048)):
        parts += [conv(f"neck.lateral_convs.{i}.conv", before, 256, 1, bias=True)]
        parts += [conv(f"neck.fpn_convs.{i}.conv", 256, 256, 3, bias=True)]
    for head, places in enumerate(((0,), (0,), (0, 2), (0, 2, 4))):
        for place in places:
            name = f"decode_head.scale_heads.{head}.{place}"
            parts += [conv(f"{name}.conv", 128 if place else 256, 128, 3), norm(f"{name}.bn", 128)]
    return merged([*parts, conv("decode_head.conv_seg", 128, 8, 1, bias=True)])


def emonet(expressions: int) -> Layout:
    """emonet_8.pth and emonet_5.pth."""
    parts = [split_trunk(), hourglass(0), hourglass(1)]
    parts += [conv("bl0", 256, 256, 1, bias=True), conv("al0", 68, 256, 1, bias=True)]
    parts += [conv("conv1x1_input_emo_2", 768, 256, 1, bias=True)]
    parts += [split_block(f"emo_net_2.{i}", 256, 256) for i in (0, 2, 4, 6)]
    parts += [linear("emo_fc_2.0", 256, 128), norm("emo_fc_2.1", 128), linear("emo_fc_2.3", 128, expressions + 2)]
    return merged(parts)


def face_normals() -> Layout:
    """model.pth of the cross-modal face normals, with the training's other half and the trunk's second copy."""
    parts = [resnet18(("base_model.conv1", "base_model.bn1"), tuple(f"base_model.layer{i}" for i in range(1, 5)))]
    parts += [linear("base_model.fc", 512, 1000)]
    for end in ("", "_2"):
        layers = (f"layer1{end}.1", f"layer2{end}", f"layer3{end}", f"layer4{end}")
        parts += [resnet18((f"layer0{end}.0", f"layer0{end}.1"), layers)]
    shapes = {
        "layer0_1x1": (64, 64, 1),
        "layer1_1x1": (64, 64, 1),
        "layer2_1x1": (128, 128, 1),
        "layer3_1x1": (256, 256, 1),
        "layer4_1x1": (512, 768, 1),
        "conv_up3": (768, 640, 3),
        "conv_up2": (640, 320, 3),
        "conv_up1": (320, 320, 3),
        "conv_up0": (320, 192, 3),
        "conv_up3_2": (512, 512, 3),
        "conv_up2_2": (512, 256, 3),
        "conv_up1_2": (256, 256, 3),
        "conv_up0_2": (256, 128, 3),
        "conv_original_size0": (3, 64, 3),
        "conv_original_size1": (64, 64, 3),
        "conv_original_size2": (192, 64, 3),
        "conv_original_size0_2": (3, 64, 3),
        "conv_original_size1_2": (64, 64, 3),
        "conv_original_size2_2": (128, 64, 3),
    }
    parts += [conv(f"{name}.0", *shape, bias=True) for name, shape in shapes.items()]
    return merged([*parts, conv("conv_last", 64, 3, 1, bias=True), conv("conv_last_2", 64, 3, 1, bias=True)])


def classifier(backbone: str) -> Layout:
    """torchvision's AlexNet, VGG-16 and SqueezeNet 1.1; their classifiers in small."""
    if backbone == "alex":
        shapes = ((0, 3, 64, 11), (3, 64, 192, 5), (6, 192, 384, 3), (8, 384, 256, 3), (10, 256, 256, 3))
        parts = [conv(f"features.{i}", *shape, bias=True) for i, *shape in shapes]
    elif backbone == "vgg":
        widths = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
        places = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
        parts = [
            conv(f"features.{i}", before, after, 3, bias=True)
            for i, before, after in zip(places, widths, widths[1:], strict=False)
        ]
    else:
        fires = ((3, 64, 16, 64), (4, 128, 16, 64), (6, 128, 32, 128), (7, 256, 32, 128))
        fires += ((9, 256, 48, 192), (10, 384, 48, 192), (11, 384, 64, 256), (12, 512, 64, 256))
        parts = [conv("features.0", 3, 64, 3, bias=True)]
        for i, before, squeezed, expanded in fires:
            parts += [conv(f"features.{i}.squeeze", before, squeezed, 1, bias=True)]
            parts += [conv(f"features.{i}.expand1x1", squeezed, expanded, 1, bias=True)]
            parts += [conv(f"features.{i}.expand3x3", squeezed, expanded, 3, bias=True)]
    return merged([*parts, linear("classifier.6", 8, 8)])


def heads(backbone: str) -> Layout:
    """LPIPS v0.1."""
    channels = {
        "alex": (64, 192, 384, 256, 256),
        "vgg": (64, 128, 256, 512, 512),
        "squeeze": (64, 128, 256, 384, 384, 512, 512),
    }[backbone]
    return merged(conv(f"lin{i}.model.1", count, 1, 1) for i, count in enumerate(channels))


def syncnet() -> Layout:
    """syncnet_v2.model."""
    parts: list[Layout] = []
    sound = ((0, 1, 64, 3, 3), (4, 64, 192, 3, 3), (8, 192, 384, 3, 3), (11, 384, 256, 3, 3), (14, 256, 256, 3, 3))
    for place, before, after, *kernel in (*sound, (18, 256, 512, 5, 4)):
        parts += [{f"netcnnaud.{place}.weight": (after, before, *kernel), f"netcnnaud.{place}.bias": (after,)}]
        parts += [norm(f"netcnnaud.{place + 1}", after)]
    lips = ((0, 3, 96, 5, 7), (4, 96, 256, 1, 5), (8, 256, 256, 1, 3), (11, 256, 256, 1, 3), (14, 256, 256, 1, 3))
    for place, before, after, deep, side in (*lips, (18, 256, 512, 1, 6)):
        parts += [{f"netcnnlip.{place}.weight": (after, before, deep, side, side), f"netcnnlip.{place}.bias": (after,)}]
        parts += [norm(f"netcnnlip.{place + 1}", after)]
    for name in ("netfcaud", "netfclip"):
        parts += [linear(f"{name}.0", 512, 512), norm(f"{name}.1", 512), linear(f"{name}.3", 512, 1024)]
    return merged(parts)


def random_weights(layout: Layout, seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights of this layout that keep signals in range through many layers."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in layout.items():
        value = torch.randn(shape, generator=generator)
        if name.endswith("num_batches_tracked"):
            value = torch.tensor(7)
        elif len(shape) > 1:
            value *= (2 / value[0].numel()) ** 0.5
        elif name.endswith("running_var"):
            value = 1 + 0.3 * value.abs()
        elif name.endswith("weight"):
            value = 1 + 0.2 * value
        else:
            value *= 0.1
        weights[name] = value
    return weights


def write_checkpoint(path: Path, layout: Layout, wrapped: bool = False) -> Path:
    """A checkpoint file of this layout, quickly made: every number is one half; ``wrapped`` as mmcv writes them."""
    weights: Any = {name: torch.full(shape, 0.5) for name, shape in layout.items()}
    torch.save({"meta": {"epoch": 3}, "state_dict": weights} if wrapped else weights, path)
    return path
