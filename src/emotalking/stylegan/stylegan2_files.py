"""StyleGAN2's generator from the files in which it is published, compared name by name and shape by shape."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emotalking.errors import InputError
from emotalking.networks.pickles import read_network_pickle
from emotalking.networks.registry import model_path
from emotalking.networks.weights import load_sized, read_torch
from emotalking.stylegan.stylegan2 import FILTER, LARGEST, START, StyleGAN2, StyleGAN2Size

SETTINGS = {
    "c_dim": (0,),
    "label_size": (0,),
    "img_channels": (3,),
    "num_channels": (3,),
    "architecture": ("skip",),
    "resample_filter": (list(FILTER),),
    "resample_kernel": (list(FILTER),),
    "activation": ("lrelu",),
    "nonlinearity": ("lrelu",),
    "mapping_nonlinearity": ("lrelu",),
    "lr_multiplier": (0.01,),
    "mapping_lrmul": (0.01,),
    "use_noise": (True,),
}
"""Accepted settings of a file besides its sizes; names and shapes alone would not reveal another choice."""

_Rule = tuple[str, int, Callable[[Tensor], Tensor]]
"""Our name for a tensor of a file, its number of axes there, and its conversion."""

_RESOLUTIONS = tuple(2**k for k in range(2, LARGEST.bit_length()))
_MOST_LAYERS = 32
"""More than any published file; names beyond are reported as unexpected."""


def open_stylegan2(path: Path | None = None) -> StyleGAN2:
    """A published generator, frozen; its size is read from the file.

    Args:
        path: the authors' pickle (PyTorch or TensorFlow, the network ``G_ema``), or the widespread conversion
            ``.pt`` with ``g_ema`` and ``latent_avg``; None: the model folder's file.

    Returns:
        The generator for evaluation, without gradients for its weights (``requires_grad_()`` to tune it).

    Raises:
        InputError: if the file is missing, could run code, is damaged, was built in another way, or a key is missing,
            unexpected or of another shape.
    """
    path = path or model_path("stylegan2_ffhq")
    settings: dict[str, Any] = {}
    if path.suffix == ".pkl":
        networks = read_network_pickle(path)
        if "G_ema" not in networks:
            raise InputError(f"{path} holds no generator G_ema: give the published file.")
        network = networks["G_ema"]
        settings = _flat(network.settings)
        tensors = _from_tensorflow(network.tensors, path) if network.tensorflow else network.tensors
    else:
        tensors = _from_converted(read_torch(path), path)
    for name, allowed in SETTINGS.items():
        if settings.get(name) is not None and settings[name] not in allowed:
            raise InputError(f"{path} was built with {name} = {settings[name]}: give StyleGAN2 for FFHQ (config f).")
    tensors = _without_filters(tensors, path)
    size = _size(tensors, settings.get("conv_clamp"), path)
    return load_sized(lambda: StyleGAN2(size), {name: tensor.float() for name, tensor in tensors.items()}, path)


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings and those nested in them, by their own names."""
    flat = {name: value for name, value in settings.items() if not isinstance(value, dict)}
    for value in settings.values():
        flat |= value if isinstance(value, dict) else {}
    return flat


def _size(tensors: dict[str, Tensor], clamp: Any, path: Path) -> StyleGAN2Size:
    """Infer the sizes from shapes; a wrong inference fails when every shape is compared."""
    blocks = [int(found[1]) for name in tensors if (found := re.match(r"synthesis\.b(\d+)\.torgb\.weight$", name))]
    layers = [name for name in tensors if re.match(r"mapping\.fc\d+\.weight$", name)]
    try:
        largest = max(blocks)
        return StyleGAN2Size(
            resolution=largest,
            channel_base=largest * tensors[f"synthesis.b{largest}.torgb.weight"].shape[1],
            channel_max=tensors["synthesis.b4.const"].shape[0],
            style_dim=tensors["mapping.fc0.bias"].shape[0],
            mapping_layers=len(layers),
            clamp=None if clamp is None else float(clamp),
        )
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise InputError(f"{path} holds no generator of StyleGAN2: give the published file.") from error


def _without_filters(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Remove the resampling filters, which must equal our network's."""
    line = torch.tensor([float(tap) for tap in FILTER])
    square = torch.outer(line, line) / line.sum() ** 2
    for name, tensor in tensors.items():
        if name.endswith("resample_filter"):
            if tensor.shape != square.shape or not torch.allclose(tensor.float(), square, atol=1e-6):
                raise InputError(f"{path} changes sizes with another filter ({name}): give the published file.")
    return {name: tensor for name, tensor in tensors.items() if not name.endswith("resample_filter")}


def _rename(tensors: dict[str, Tensor], rules: dict[str, _Rule], path: Path) -> dict[str, Tensor]:
    """Our names and shapes; a name without rule stays, so that the comparison reports it.

    Raises:
        InputError: if a tensor has another number of axes than published.
    """
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        ours, axes, change = rules.get(name, (name, tensor.dim(), _same))
        if tensor.dim() != axes:
            raise InputError(f"{path} holds {name} with {tensor.dim()} axes, not {axes}: give the published file.")
        out[ours] = change(tensor)
    return out


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _first(tensor: Tensor) -> Tensor:
    return tensor.squeeze(0)


def _plane(tensor: Tensor) -> Tensor:
    return tensor.squeeze(0).squeeze(0)


def _layers() -> Iterator[tuple[int, str, int]]:
    """Pixels, name and number of every convolution, beyond the largest published network."""
    for number, resolution in enumerate(_RESOLUTIONS):
        if resolution > START:
            yield resolution, "conv0", 2 * number - 1
        yield resolution, "conv1", 2 * number


def _converted_rules() -> dict[str, _Rule]:
    """The widespread ``.pt`` files; the filters of their upsampling layers include the gain 4."""
    rules: dict[str, _Rule] = {
        "input.input": ("synthesis.b4.const", 4, _first),
        "latent_avg": ("mapping.w_avg", 1, _same),
    }
    for i in range(_MOST_LAYERS):
        rules[f"style.{i + 1}.weight"] = (f"mapping.fc{i}.weight", 2, _same)
        rules[f"style.{i + 1}.bias"] = (f"mapping.fc{i}.bias", 1, _same)

    def modulated(theirs: str, ours: str) -> None:
        rules[f"{theirs}.conv.weight"] = (f"{ours}.weight", 5, _first)
        rules[f"{theirs}.conv.modulation.weight"] = (f"{ours}.affine.weight", 2, _same)
        rules[f"{theirs}.conv.modulation.bias"] = (f"{ours}.affine.bias", 1, _same)

    for resolution, name, number in _layers():
        theirs, ours = f"convs.{number - 1}" if number else "conv1", f"synthesis.b{resolution}.{name}"
        modulated(theirs, ours)
        rules[f"{theirs}.noise.weight"] = (f"{ours}.noise_strength", 1, _first)
        rules[f"{theirs}.activate.bias"] = (f"{ours}.bias", 1, _same)
        rules[f"noises.noise_{number}"] = (f"{ours}.noise_const", 4, _plane)
        if name == "conv0":
            rules[f"{theirs}.conv.blur.kernel"] = (f"{ours}.resample_filter", 2, lambda kernel: kernel / 4)
    for number, resolution in enumerate(_RESOLUTIONS):
        theirs, ours = f"to_rgbs.{number - 1}" if number else "to_rgb1", f"synthesis.b{resolution}.torgb"
        modulated(theirs, ours)
        rules[f"{theirs}.bias"] = (f"{ours}.bias", 4, lambda bias: bias.squeeze(0).flatten(1).squeeze(1))
        if number:
            rules[f"{theirs}.upsample.kernel"] = (f"synthesis.b{resolution}.resample_filter", 2, lambda k: k / 4)
    return rules


def _from_converted(content: Any, path: Path) -> dict[str, Tensor]:
    """Our names for what a ``.pt`` file holds as ``g_ema`` and ``latent_avg``."""
    parts = (content.get("g_ema"), content.get("latent_avg")) if isinstance(content, dict) else (None, None)
    weights, mean = parts
    if not isinstance(weights, dict) or not isinstance(mean, Tensor):
        raise InputError(f"{path} holds no g_ema with its latent_avg: give the converted file of the whole network.")
    if not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise InputError(f"{path} holds other things than tensors in g_ema: give the published file.")
    return _rename({**weights, "latent_avg": mean}, _converted_rules(), path)


def _tensorflow_rules() -> dict[str, _Rule]:
    """The first authors' files: channels last, the kernels of upsampling layers not rotated, biases of styles
    relative to one."""
    rules: dict[str, _Rule] = {
        "dlatent_avg": ("mapping.w_avg", 1, _same),
        "synthesis/4x4/Const/const": ("synthesis.b4.const", 4, _first),
    }
    for i in range(_MOST_LAYERS):
        rules[f"mapping/Dense{i}/weight"] = (f"mapping.fc{i}.weight", 2, torch.t)
        rules[f"mapping/Dense{i}/bias"] = (f"mapping.fc{i}.bias", 1, _same)

    def modulated(theirs: str, ours: str, up: bool = False) -> None:
        def kernel(tensor: Tensor) -> Tensor:
            return (tensor.flip(0, 1) if up else tensor).permute(3, 2, 0, 1)

        rules[f"{theirs}/weight"] = (f"{ours}.weight", 4, kernel)
        rules[f"{theirs}/bias"] = (f"{ours}.bias", 1, _same)
        rules[f"{theirs}/mod_weight"] = (f"{ours}.affine.weight", 2, torch.t)
        rules[f"{theirs}/mod_bias"] = (f"{ours}.affine.bias", 1, lambda bias: bias + 1)

    for resolution, name, number in _layers():
        known = {"conv0": "Conv0_up", "conv1": "Conv1" if number else "Conv"}
        theirs, ours = f"synthesis/{resolution}x{resolution}/{known[name]}", f"synthesis.b{resolution}.{name}"
        modulated(theirs, ours, up=name == "conv0")
        rules[f"{theirs}/noise_strength"] = (f"{ours}.noise_strength", 0, _same)
        rules[f"synthesis/noise{number}"] = (f"{ours}.noise_const", 4, _plane)
    for resolution in _RESOLUTIONS:
        modulated(f"synthesis/{resolution}x{resolution}/ToRGB", f"synthesis.b{resolution}.torgb")
    return rules


def _from_tensorflow(variables: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Our names for a TensorFlow network's variables; ``lod`` is left over from progressive growing."""
    return _rename({k: v for k, v in variables.items() if k != "lod"}, _tensorflow_rules(), path)
