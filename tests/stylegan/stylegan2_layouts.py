"""StyleGAN2 in its three public layouts: names and shapes as data, and the same weights written in each."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..networks.public_layouts import Layout, merged

Weights = dict[str, Tensor]
Channels = Callable[[int], int]


def config_f(resolution: int) -> int:
    """Channels of configuration F."""
    return min(32768 // resolution, 512)


def resolutions(size: int) -> list[int]:
    """4, 8, ... size."""
    return [2**k for k in range(2, int(math.log2(size)) + 1)]


def pytorch(size: int = 1024, channels: Channels = config_f, dim: int = 512, layers: int = 8) -> Layout:
    """``G_ema`` of the authors' PyTorch pickles."""

    def affine(name: str, count: int) -> Layout:
        return {f"{name}.affine.weight": (count, dim), f"{name}.affine.bias": (count,)}

    parts: list[Layout] = [{f"mapping.fc{i}.weight": (dim, dim), f"mapping.fc{i}.bias": (dim,)} for i in range(layers)]
    parts += [{"mapping.w_avg": (dim,), "synthesis.b4.const": (channels(4), 4, 4)}]
    for r in resolutions(size):
        block, here = f"synthesis.b{r}", channels(r)
        parts += [{f"{block}.resample_filter": (4, 4)}]
        for conv, before in (("conv0", channels(r // 2)), ("conv1", here)):
            if r == 4 and conv == "conv0":
                continue
            name = f"{block}.{conv}"
            parts += [affine(name, before), {f"{name}.weight": (here, before, 3, 3), f"{name}.bias": (here,)}]
            parts += [{f"{name}.noise_strength": (), f"{name}.noise_const": (r, r), f"{name}.resample_filter": (4, 4)}]
        parts += [
            affine(f"{block}.torgb", here),
            {f"{block}.torgb.weight": (3, here, 1, 1), f"{block}.torgb.bias": (3,)},
        ]
    return merged(parts)


def converted(size: int = 1024, channels: Channels = config_f, dim: int = 512, layers: int = 8) -> Layout:
    """``g_ema`` of the widespread .pt files."""

    def modulated(name: str, before: int, after: int, taps: int) -> Layout:
        layout: Layout = {f"{name}.conv.weight": (1, after, before, taps, taps)}
        return layout | {f"{name}.conv.modulation.weight": (before, dim), f"{name}.conv.modulation.bias": (before,)}

    def styled(name: str, before: int, after: int) -> Layout:
        return modulated(name, before, after, 3) | {f"{name}.noise.weight": (1,), f"{name}.activate.bias": (after,)}

    def colours(name: str, count: int) -> Layout:
        return modulated(name, count, 3, 1) | {f"{name}.bias": (1, 3, 1, 1)}

    parts: list[Layout] = [{f"style.{i}.weight": (dim, dim), f"style.{i}.bias": (dim,)} for i in range(1, layers + 1)]
    parts += [{"input.input": (1, channels(4), 4, 4)}, styled("conv1", channels(4), channels(4))]
    parts += [colours("to_rgb1", channels(4)), {"noises.noise_0": (1, 1, 4, 4)}]
    for i, r in enumerate(resolutions(size)[1:]):
        parts += [
            styled(f"convs.{2 * i}", channels(r // 2), channels(r)),
            styled(f"convs.{2 * i + 1}", channels(r), channels(r)),
        ]
        parts += [colours(f"to_rgbs.{i}", channels(r)), {f"to_rgbs.{i}.upsample.kernel": (4, 4)}]
        parts += [{f"convs.{2 * i}.conv.blur.kernel": (4, 4)}]
        parts += [{f"noises.noise_{2 * i + k}": (1, 1, r, r) for k in (1, 2)}]
    return merged(parts)


def random_weights(layout: Layout, seed: int = 0) -> Weights:
    """Tensors of a PyTorch layout; the filters are the published ones."""
    generator = torch.Generator().manual_seed(seed)
    line = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return {
        name: torch.outer(line, line) / 64
        if name.endswith("resample_filter")
        else torch.randn(shape, generator=generator) * (100 if ".fc" in name else 1)
        for name, shape in layout.items()
    }


def as_converted(weights: Weights, size: int) -> dict[str, Any]:
    """PyTorch weights as the file ``g_ema``, ``latent_avg``."""
    filters = weights["synthesis.b4.resample_filter"] * 4
    out: Weights = {"input.input": weights["synthesis.b4.const"][None]}
    for name, value in weights.items():
        if name.startswith("mapping.fc"):
            number, field = name.removeprefix("mapping.fc").split(".")
            out[f"style.{int(number) + 1}.{field}"] = value

    def styled(theirs: str, ours: str, noise: int) -> None:
        out[f"{theirs}.conv.weight"] = weights[f"{ours}.weight"][None]
        out[f"{theirs}.conv.modulation.weight"] = weights[f"{ours}.affine.weight"]
        out[f"{theirs}.conv.modulation.bias"] = weights[f"{ours}.affine.bias"]
        out[f"{theirs}.noise.weight"] = weights[f"{ours}.noise_strength"].view(1)
        out[f"{theirs}.activate.bias"] = weights[f"{ours}.bias"]
        out[f"noises.noise_{noise}"] = weights[f"{ours}.noise_const"][None, None]

    def colours(theirs: str, ours: str) -> None:
        out[f"{theirs}.conv.weight"] = weights[f"{ours}.weight"][None]
        out[f"{theirs}.conv.modulation.weight"] = weights[f"{ours}.affine.weight"]
        out[f"{theirs}.conv.modulation.bias"] = weights[f"{ours}.affine.bias"]
        out[f"{theirs}.bias"] = weights[f"{ours}.bias"].view(1, 3, 1, 1)

    styled("conv1", "synthesis.b4.conv1", 0)
    colours("to_rgb1", "synthesis.b4.torgb")
    for i, r in enumerate(resolutions(size)[1:]):
        for k in (0, 1):
            styled(f"convs.{2 * i + k}", f"synthesis.b{r}.conv{k}", 2 * i + k + 1)
        colours(f"to_rgbs.{i}", f"synthesis.b{r}.torgb")
        out[f"convs.{2 * i}.conv.blur.kernel"] = out[f"to_rgbs.{i}.upsample.kernel"] = filters
    return {"g_ema": out, "latent_avg": weights["mapping.w_avg"]}


def as_tensorflow(weights: Weights, size: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, Any]]:
    """PyTorch weights as the variables of the TensorFlow pickle: of ``mapping``, of ``synthesis``, of the whole."""
    mapping: dict[str, np.ndarray] = {}
    for name, value in weights.items():
        if name.startswith("mapping.fc"):
            number, field = name.removeprefix("mapping.fc").split(".")
            mapping[f"Dense{number}/{field}"] = value.numpy().T
    synthesis = {"4x4/Const/const": weights["synthesis.b4.const"][None].numpy()}

    def layer(theirs: str, ours: str, turned: bool = False) -> None:
        kernel = weights[f"{ours}.weight"].permute(2, 3, 1, 0).numpy()
        synthesis[f"{theirs}/weight"] = np.ascontiguousarray(kernel[::-1, ::-1]) if turned else kernel
        synthesis[f"{theirs}/mod_weight"] = weights[f"{ours}.affine.weight"].numpy().T
        synthesis[f"{theirs}/mod_bias"] = weights[f"{ours}.affine.bias"].numpy() - 1
        synthesis[f"{theirs}/bias"] = weights[f"{ours}.bias"].numpy()
        if not ours.endswith("torgb"):
            synthesis[f"{theirs}/noise_strength"] = weights[f"{ours}.noise_strength"].numpy()[()]

    for k, r in enumerate(resolutions(size)):
        names = {"conv1": "Conv"} if r == 4 else {"conv0": "Conv0_up", "conv1": "Conv1"}
        for ours, theirs in names.items():
            layer(f"{r}x{r}/{theirs}", f"synthesis.b{r}.{ours}", turned=ours == "conv0")
            noise = weights[f"synthesis.b{r}.{ours}.noise_const"][None, None].numpy()
            synthesis[f"noise{2 * k - (1 if ours == 'conv0' else 0)}"] = noise
        layer(f"{r}x{r}/ToRGB", f"synthesis.b{r}.torgb")
    return mapping, synthesis, {"lod": np.float32(0.0), "dlatent_avg": weights["mapping.w_avg"].numpy()}
