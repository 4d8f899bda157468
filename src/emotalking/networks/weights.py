"""Strict loading of published checkpoints: only tensors are built, and every key and shape must fit."""

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from emotalking.errors import InputError
from emotalking.io import torch_files
from emotalking.io.arrays import load_archive
from emotalking.io.reading import reading
from emotalking.io.tensors import read_tensors
from emotalking.networks.pickles import read_arrays
from emotalking.networks.registry import model_path
from emotalking.networks.torchscript import read_torchscript

Network = TypeVar("Network", bound=nn.Module)
Opened = TypeVar("Opened", bound="Published")

_AGAIN = "download it again"
NAMED = 3
"""Keys of each kind of mismatch that an error message names."""


class _Ignored:
    """Stand-in for a NumPy number in a checkpoint's metadata (mmcv stores its best score so); never read."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


_REMARKS: list[tuple[Callable[..., Any], str]] = [
    (_Ignored, name)
    for name in ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype", "numpy.float64")
]


def read_weights(path: Path) -> dict[str, Tensor]:
    """Names and tensors of a checkpoint; no content of the file can run code.

    Args:
        path: what ``torch.save`` wrote (both formats of it), a state dict or a dict that holds one as ``state_dict``;
            ``.npz`` with one array a tensor, ``.safetensors``, a pickled dict of arrays (``.pkl``), or a TorchScript
            archive named ``.zip``, whose program is ignored. The prefix ``module.`` of ``DataParallel`` is
            taken off if all names carry it.

    Returns:
        Tensors on the CPU; floating ones as float32.

    Raises:
        InputError: if the file is cut short, is TorchScript by another name, or holds anything but tensors and plain
            values.
    """
    readers: dict[str, Callable[[Path], Any]] = {
        ".npz": _read_npz,
        ".safetensors": _read_safetensors,
        ".pkl": read_arrays,
        ".zip": read_torchscript,
    }
    content = readers.get(path.suffix, read_torch)(path)
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise InputError(f"{path} holds no state dict (names and tensors): give the published file.")
    names = [str(name) for name in content]
    if all(name.startswith("module.") for name in names):
        names = [name.removeprefix("module.") for name in names]
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in zip(names, content.values(), strict=True)
    }


def read_torch(path: Path) -> Any:
    """Content of a ``torch.save`` file, if it is tensors, plain values and containers of them.

    Raises:
        InputError: as :func:`read_weights`.
    """
    try:
        return torch_files.read_torch(path, _REMARKS)
    except Exception as error:  # bytes that are no checkpoint, or half of one, can fail in any way
        if "TorchScript" in str(error):
            trouble = "is a TorchScript archive, which is a program: give the checkpoint that holds weights only"
        elif isinstance(error, pickle.UnpicklingError) and "nsupported" in str(error):
            trouble = "holds Python objects that could run code, so it was not opened: give the published file"
        else:
            trouble = "is damaged, cut short or no checkpoint: download it again"
        raise InputError(f"{path} {trouble}.") from error


def _read_npz(path: Path) -> dict[str, Tensor]:
    with reading(path, "is damaged or holds more than plain arrays", _AGAIN):
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in load_archive(path).items()}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    with reading(path, "is damaged, cut short or no safetensors file", _AGAIN):
        return read_tensors(path)[1]


def load_frozen(network: Network, path: Path, unused: tuple[str, ...] = ()) -> Network:
    """Fill ``network`` with the weights in ``path``, for evaluation only: no gradients for weights, BatchNorm fixed.

    Args:
        network: our implementation; its state dict has the published names.
        path: checkpoint (:func:`read_weights`).
        unused: beginnings of names that the published file holds and ``network`` does not need (training heads).

    Returns:
        ``network``.

    Raises:
        InputError: if a key is missing, unexpected or of another shape, or a weight is not finite; the first few of
            each kind are named. ``num_batches_tracked`` is ignored either way.
    """
    tensors = {
        name: tensor
        for name, tensor in read_weights(path).items()
        if not name.startswith(unused) and not name.endswith("num_batches_tracked")
    }
    return load_tensors(network, tensors, path)


class Published(nn.Module):
    """A network whose weights are published."""

    MODEL: ClassVar[str]
    """Name of its file in the registry."""
    UNUSED: ClassVar[tuple[str, ...]] = ()
    """See :func:`load_frozen`."""

    @classmethod
    def open(cls: type[Opened], path: Path | None = None) -> Opened:
        """The published network, frozen; ``path`` defaults to the model folder's file.

        Raises:
            InputError: if the file is missing or does not fit.
        """
        return load_frozen(cls(), path or model_path(cls.MODEL), cls.UNUSED)


def load_tensors(network: Network, tensors: Mapping[str, Tensor], path: Path) -> Network:
    """As :func:`load_frozen`, with ``tensors`` that were read from ``path`` and renamed."""
    _compare(network, tensors, path)
    return _filled(network, tensors)


def load_sized(build: Callable[[], Network], tensors: Mapping[str, Tensor], path: Path) -> Network:
    """As :func:`load_tensors`, for a network whose size the file gives: compared before memory is allocated for it.

    Args:
        build: makes the network; called twice, first without memory.
        tensors: tensors read from ``path``.
        path: for messages.
    """
    try:
        with torch.device("meta"):
            sketch = build()
    except RuntimeError as error:
        raise InputError(f"{path} names sizes that no network can have: give the published file.") from error
    _compare(sketch, tensors, path)
    return _filled(build(), tensors)


def _filled(network: Network, tensors: Mapping[str, Tensor]) -> Network:
    """With tensors that were compared with it name by name, and frozen."""
    network.load_state_dict(tensors, strict=False)
    return network.eval().requires_grad_(False)


def _compare(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse tensors that do not fit a network."""
    wanted = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    misshaped = [
        f"{name}: {list(tensors[name].shape)} instead of {list(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    troubles = {
        "missing": [name for name in wanted if name not in tensors],
        "unexpected": [name for name in tensors if name not in wanted],
        "of another shape": misshaped,
        "not finite": [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()],
    }
    listed = [f"{len(names)} {kind} ({_first(names)})" for kind, names in troubles.items() if names]
    if listed:
        raise InputError(
            f"the checkpoint {path} does not fit {type(network).__name__}, keys: {', '.join(listed)}: give the"
            " published file."
        )


def _first(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
