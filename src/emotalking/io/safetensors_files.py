"""Safetensors files: named arrays with text in the header, nothing that can run code. PyTorch is not loaded."""

import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from emotalking.io.files import CannotWriteError, replacing

CHECKSUM = "checksum"
"""Entry of the metadata with the arrays' checksum, added by :func:`write_arrays` and not returned by the readers; files
of version 0.2 have none."""
Arrays = dict[str, np.ndarray]


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write ``arrays`` and ``metadata`` atomically; an existing file is kept until the new one is complete.

    Raises:
        CannotWriteError: the file cannot be written.
    """
    content = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}
    try:
        with replacing(path) as scratch:
            save_file(content, scratch, metadata={**metadata, CHECKSUM: checksum_of(content)})
    except SafetensorError as error:
        raise CannotWriteError(Path(path), OSError(None, str(error))) from error


def read_arrays(path: Path) -> tuple[dict[str, str], Arrays]:
    """Metadata and arrays of a file; no metadata is an empty dict.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError, TypeError: it is damaged, cut short, of another kind, or of numbers that NumPy does not have.
    """
    try:
        with safe_open(path, framework="np") as file:
            metadata = dict(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    if metadata.pop(CHECKSUM, None) not in (None, checksum_of(arrays)):
        raise ValueError("it has changed since it was written")
    return metadata, arrays


def checksum_of(arrays: Mapping[str, np.ndarray]) -> str:
    """CRC-32 of all arrays with their names, whatever their order in the file."""
    parts = ((f"{name} torch.{a.dtype} {list(a.shape)}", a.tobytes()) for name, a in sorted(arrays.items()))
    return checksum(parts)


def checksum(parts: Iterable[tuple[str, bytes]]) -> str:
    """CRC-32 of the parts of a file: name, type (as PyTorch calls it) and shape, and the bytes of each."""
    value = 0
    for about, content in parts:
        value = zlib.crc32(content, zlib.crc32(about.encode(), value))
    return f"crc32:{value:08x}"
