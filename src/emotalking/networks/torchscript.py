"""The tensors of a TorchScript archive, without its program.

Such an archive is a zip file: a pickle of the module's attributes, the numbers of each tensor, and source code. Here
only the pickle and the numbers are read, by an interpreter that allows five kinds of globals; the code is never read.
"""

import io
import math
import pickle
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emotalking.errors import InputError
from emotalking.io.archives import PACKINGS, check_pickle
from emotalking.networks.pickles import Function, Inert, TensorStandIn, bounded, spend

_STORAGES = {
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "DoubleStorage": np.float64,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "BoolStorage": np.bool_,
}
_LISTS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")


class _Kind(Inert):
    """Stand-in for a number type, without operations for the file."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: type) -> None:
        self.dtype = dtype


def _module_class() -> type:
    """A record of a module's attributes, created for each file."""

    class Module:
        """Attributes as they were stored."""

        def __init__(self) -> None:
            self.attributes: dict[Any, Any] = {}

        def __setstate__(self, state: Any) -> None:
            if not isinstance(state, dict):
                raise pickle.UnpicklingError("a module without attributes")
            self.__dict__["attributes"] = state

    return Module


def _view(numbers: Any, offset: Any, size: Any, stride: Any, *_: Any) -> TensorStandIn:
    """A tensor of a storage."""
    if not isinstance(numbers, np.ndarray) or math.prod(size) > numbers.size:
        raise pickle.UnpicklingError("a tensor without its numbers")
    return TensorStandIn(torch.from_numpy(numbers).as_strided(size, stride, offset))


def _as_list(items: Any) -> list[Any]:
    return list(items)


class _Reader(pickle.Unpickler):
    """pickle's machine with a list of globals in the place of Python's modules."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        program = io.BytesIO(_read(archive, f"{root}/data.pkl"))
        check_pickle(program)
        program.seek(0)
        super().__init__(program)
        self._archive, self._root = archive, root
        self._numbers: dict[tuple[str, type], np.ndarray] = {}
        self.module = _module_class()

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a global of the file."""
        if module.split(".")[0] == "__torch__":
            return self.module
        if module == "torch" and name in _STORAGES:
            return _Kind(_STORAGES[name])
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return Function(_view)
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if module == "torch.jit._pickle" and name in _LISTS:
            return Function(_as_list)
        raise pickle.UnpicklingError(f"a global {module}.{name}")

    def persistent_load(self, pid: Any) -> np.ndarray:
        """The numbers of a tensor."""
        what, kind, key, _, count = pid
        if what != "storage" or not isinstance(kind, _Kind) or not str(key).isdigit():
            raise pickle.UnpicklingError("a persistent object of an unknown kind")
        if (key, kind.dtype) not in self._numbers:
            loaded = np.frombuffer(_read(self._archive, f"{self._root}/data/{key}"), kind.dtype)
            self._numbers[key, kind.dtype] = loaded.copy()
        numbers = self._numbers[key, kind.dtype]
        if len(numbers) < count:
            raise pickle.UnpicklingError("a tensor without its numbers")
        return numbers


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    """A file of the archive."""
    part = archive.getinfo(name)
    if part.compress_type not in PACKINGS:
        raise ValueError("packed in an unusual way")
    spend(part.file_size)
    return archive.read(part)


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Parameters and buffers of the archived module by their full names, on the CPU as they were stored.

    Raises:
        InputError: if the file is no such archive, is cut short, or names a global that has no place among weights.
    """
    try:
        with zipfile.ZipFile(path) as archive, bounded(path.stat().st_size):
            places = [name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1]
            if not places:
                raise ValueError("no data.pkl")
            reader = _Reader(archive, places[0].split("/")[0])
            content = reader.load()
            if not isinstance(content, reader.module):
                raise ValueError("no module")
            return dict(_tensors(content, reader.module, "", set()))
    except pickle.UnpicklingError as error:
        raise InputError(f"{path} holds {error}, so it was not opened: give the published file.") from error
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, IndexError,
            MemoryError, zipfile.BadZipFile, zlib.error) as error:  # fmt: skip
        raise InputError(f"{path} is damaged, cut short or no TorchScript archive: download it again.") from error


def _tensors(module: Any, kind: type, prefix: str, visited: set[int]) -> Iterator[tuple[str, Tensor]]:
    """Of a module and of all modules in it."""
    if id(module) in visited:  # modules that contain each other would never end
        raise ValueError("a module twice")
    visited.add(id(module))
    for name, value in module.attributes.items():
        if isinstance(value, TensorStandIn):
            yield f"{prefix}{name}", value.tensor
        elif isinstance(value, kind):
            yield from _tensors(value, kind, f"{prefix}{name}.", visited)
