"""Files of ``torch.save``: tensors and plain values, nothing that can run code or claim more than the file holds."""

import io
import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emotalking.io.archives import DENSEST, SPARE, check_archive, check_pickle

LEGACY_PICKLES = 5
"""Pickles at the beginning of a file of the older format."""
_MAGIC = b"PK"


def read_torch(path: Path, ignored: Sequence[tuple[Callable[..., Any], str]] = (), *, checksums: bool = False) -> Any:
    """Content of a file, on the CPU.

    Args:
        path: what ``torch.save`` wrote, in either of its formats.
        ignored: stand-ins for further globals that the file may name, and their names.
        checksums: compare the checksum of every part (CRC-32), which torch itself does not: a flipped bit is found.
            Only the newer format has them.

    Raises:
        OSError: it is missing or cannot be read.
        Exception: damaged bytes can fail in any way.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        zipped = file.read(len(_MAGIC)) == _MAGIC
        if not zipped:
            file.seek(0)
            for _ in range(LEGACY_PICKLES):
                check_pickle(file)
    if zipped:
        with zipfile.ZipFile(path) as archive:
            check_archive(archive, size)
            if checksums and (bad := archive.testzip()):
                raise ValueError(f"its part {bad} has changed since it was written")
            for name in archive.namelist():
                if name.endswith("/data.pkl"):
                    check_pickle(io.BytesIO(archive.read(name)))
    with torch.serialization.safe_globals(list(ignored)), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about kinds of files that are refused
        content = torch.load(path, map_location="cpu", weights_only=True)
    _check_tensors(content, size)
    return content


def _check_tensors(content: Any, size: int) -> None:
    """Refuse views that repeat the numbers of a file of ``size`` bytes many times over.

    Raises:
        UnpicklingError: together they are far more than the file, or are no plain tensors.
    """
    left = max(SPARE, DENSEST * size)
    waiting = [content]
    seen = set()
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, Tensor):
            if part.layout != torch.strided or part.device.type != "cpu" or part.is_quantized:
                raise pickle.UnpicklingError("a tensor of an unusual kind")
            left -= part.numel() * part.element_size()
            if left < 0:
                raise pickle.UnpicklingError("more numbers than it has room for")
        elif isinstance(part, Mapping):
            waiting += [*part.keys(), *part.values()]
        elif isinstance(part, list | tuple | set | frozenset):
            waiting += part
