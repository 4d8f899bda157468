"""Safetensors files as tensors (:mod:`emotalking.io.safetensors_files`)."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from emotalking.io.safetensors_files import CHECKSUM, checksum, write_arrays


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write ``tensors`` and ``metadata`` atomically; an existing file is kept until the new one is complete.

    Raises:
        CannotWriteError: the file cannot be written.
    """
    write_arrays(path, {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}, metadata)


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors (on the CPU) of a file, also of types that NumPy does not have.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is damaged, cut short, or of another kind.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    if metadata.pop(CHECKSUM, None) not in (None, _checksum(tensors)):
        raise ValueError("it has changed since it was written")
    return metadata, tensors


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    return checksum(
        (f"{name} {tensor.dtype} {list(tensor.shape)}", tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
        for name, tensor in sorted(tensors.items())
    )
