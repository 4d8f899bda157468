"""Safetensors files: named tensors with text in the header, nothing that can run code."""

import zlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from emotalking.io.files import CannotWriteError, replacing

CHECKSUM = "checksum"
"""Entry of the metadata with the tensors' checksum, added by :func:`write_tensors` and not returned; files of version
0.2 have none."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write ``tensors`` and ``metadata`` atomically; an existing file is kept until the new one is complete.

    Raises:
        CannotWriteError: the file cannot be written.
    """
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        with replacing(path) as scratch:
            save_file(content, scratch, metadata={**metadata, CHECKSUM: _checksum(content)})
    except SafetensorError as error:
        raise CannotWriteError(Path(path), OSError(None, str(error))) from error


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors (on the CPU) of a file; no metadata is an empty dict.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is damaged, cut short, or of another kind.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    if metadata.pop(CHECKSUM, None) not in (None, _checksum(tensors)):
        raise ValueError("it has changed since it was written")
    return metadata, tensors


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    """CRC-32 of all tensors with their names, whatever their order in the file."""
    value = 0
    for name, tensor in sorted(tensors.items()):
        value = zlib.crc32(f"{name} {tensor.dtype} {list(tensor.shape)}".encode(), value)
        value = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().tobytes(), value)
    return f"crc32:{value:08x}"
