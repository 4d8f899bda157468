"""Readers of untrusted pickles: of StyleGAN's published networks and of named arrays; none of their content is run.

Such a file holds objects together with the source of their classes, and their own loader executes that source. Here a
pickle may only name the few globals in :func:`_globals`; each maps to a function of this module that makes a
tensor, a number or a plain record. Any other name ends the reading before it is looked up, and no module is imported.

Stand-ins that a file cannot change, and bounds on its memory, are shared with :mod:`emotalking.networks.torchscript`.
"""

import io
import math
import pickle
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emotalking.errors import InputError
from emotalking.io.archives import check_pickle
from emotalking.io.torch_files import LEGACY_PICKLES

SPARE = 1 << 20
"""Bytes that a file may make beyond its own size."""
_LEFT: ContextVar[int] = ContextVar("bytes that the file may still make")

OLDEST_TENSORFLOW = 4
"""Version of the TensorFlow pickles from which on names and shapes are as they are today."""


class Inert:
    """Base of all stand-ins for objects: a file cannot set attributes on it."""

    __slots__ = ()

    def __setstate__(self, _: Any) -> None:
        raise pickle.UnpicklingError(f"a state for {type(self).__name__}")


class Function(Inert):
    """Stand-in for an allowed global; the file may only call it."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)


class TensorStandIn(Inert):
    """A tensor, out of the file's reach."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


@contextmanager
def bounded(size: int) -> Iterator[None]:
    """Limit the bytes that a file of ``size`` bytes may allocate inside (:func:`spend`)."""
    token = _LEFT.set(size + SPARE)
    try:
        yield
    finally:
        _LEFT.reset(token)


def spend(size: int) -> None:
    """Account for ``size`` bytes of numbers that are about to be allocated.

    Raises:
        UnpicklingError: more than the file can hold: it repeats references.
    """
    left = _LEFT.get() - size
    _LEFT.set(left)
    if left < 0:
        raise pickle.UnpicklingError("more numbers than it has room for")


@dataclass
class PickledNetwork:
    """One network of a file."""

    tensorflow: bool
    """True if names and shapes are those of the TensorFlow files."""
    tensors: dict[str, Tensor]
    """Parameters and buffers by their full names, on the CPU as they were stored."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Arguments that the network was built with; plain values, nested settings as dicts."""


class _Forbidden(Exception):
    """A global that is not on the list; the message is its name."""


class _Storage(TensorStandIn):
    """A tensor of one axis, of which others are views."""

    __slots__ = ()


class _Module(Inert):
    """A network's or a layer's attributes."""

    __slots__ = ("attributes",)

    def __init__(self, meta: Any) -> None:
        if not isinstance(meta, dict) or meta.get("type") != "class" or not isinstance(meta.get("state"), dict):
            raise pickle.UnpicklingError("a persistent object of an unknown kind")
        self.attributes: dict[Any, Any] = meta["state"]


class _TensorFlow(Inert):
    """A network of a TensorFlow file; its content is a state."""

    __slots__ = ("content",)

    def __setstate__(self, state: Any = None) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("a network without content")
        self.content = state


class _DType(Inert):
    """numpy's description of plain numbers."""

    __slots__ = ("dtype",)

    def __init__(self, code: Any, *_: Any) -> None:
        self.dtype = np.dtype(code) if isinstance(code, str) and code[:1] in "fiub" and code[1:].isdigit() else None
        if self.dtype is None:
            raise pickle.UnpicklingError("an array without numbers")

    def __setstate__(self, state: Any) -> None:
        # (version, byte order, ...): the rest describes structured types, which are refused above.
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("numbers of an unknown kind")
        self.dtype = self.dtype and self.dtype.newbyteorder(state[1])

    def read(self, content: Any, shape: tuple[int, ...], by_columns: bool = False) -> np.ndarray:
        """The numbers in ``content``: bytes, or their text as Python 2 wrote them."""
        content = content.encode("latin1") if isinstance(content, str) else content
        spend(len(content))
        numbers = np.frombuffer(content, self.dtype).reshape(shape, order="F" if by_columns else "C")
        return numbers.astype(numbers.dtype.newbyteorder("="))


class _Array(Inert):
    """A numpy array; its content is a state."""

    __slots__ = ("tensor",)

    def __init__(self, *_: Any) -> None:
        self.tensor: Tensor | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, by_columns, content = state
        if not isinstance(dtype, _DType) or not isinstance(content, bytes | str):
            raise pickle.UnpicklingError("an array without numbers")
        self.tensor = torch.from_numpy(dtype.read(content, shape, bool(by_columns)))


def _number(dtype: Any, content: Any) -> Any:
    """A number of numpy as Python's."""
    if not isinstance(dtype, _DType):
        raise pickle.UnpicklingError("a number of an unknown kind")
    return dtype.read(content, ()).item()


def _storage(content: Any) -> _Storage:
    """The numbers of a tensor: bytes that are themselves a pickle, read by torch's own restricted reader."""
    spend(len(content))
    inner = io.BytesIO(content)
    for _ in range(LEGACY_PICKLES):
        check_pickle(inner)
    inner.seek(0)
    storage = torch.load(inner, map_location="cpu", weights_only=True)
    if not isinstance(storage, torch.storage.TypedStorage):
        raise pickle.UnpicklingError("a storage that is none")
    flat = torch.empty(0, dtype=storage.dtype)
    return _Storage(flat.set_(storage.untyped(), 0, (storage.size(),), (1,)))


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> TensorStandIn:
    """A view of a storage; torch refuses one that exceeds it."""
    if not isinstance(storage, _Storage) or math.prod(size) > storage.tensor.numel():
        raise pickle.UnpicklingError("a tensor without its numbers")
    return TensorStandIn(storage.tensor.as_strided(size, stride, offset))


def _parameter(data: Any, *_: Any) -> TensorStandIn:
    if not isinstance(data, TensorStandIn):
        raise pickle.UnpicklingError("a parameter without its tensor")
    return data


def _names(items: Any = ()) -> frozenset[str]:
    """A set as the networks have them. One of anything else could be compared with another for ever."""
    if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
        raise pickle.UnpicklingError("a set of other things than names")
    return frozenset(items)


def _globals() -> dict[tuple[str, str], Any]:
    """All globals that a file may name, created for each file: files cannot affect each other."""

    class Settings(dict):
        """A dict of the file."""

        def __setstate__(self, _: Any = None) -> None:
            raise pickle.UnpicklingError("a state for a dict")

    class Network(_TensorFlow):
        """A class that may be instantiated."""

        __slots__ = ()

    texts: dict[int, tuple[str, bytes]] = {}

    def encode(text: Any, encoding: Any) -> bytes:
        """Bytes as Python 3 writes them in the protocols before 3, made once of each text of the file."""
        if type(text) is not str or encoding != "latin1":
            raise _Forbidden("_codecs.encode for another thing than bytes")
        if id(text) not in texts:
            texts[id(text)] = text, text.encode("latin1")
        return texts[id(text)][1]

    dtype, array, number = (Function(one) for one in (_DType, _Array, _number))
    found: dict[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): Settings,
        ("dnnlib.util", "EasyDict"): Settings,
        ("dnnlib.tflib.network", "Network"): Network,
        ("torch_utils.persistence", "_reconstruct_persistent_obj"): Function(_Module),
        ("torch._utils", "_rebuild_tensor_v2"): Function(_tensor),
        ("torch._utils", "_rebuild_parameter"): Function(_parameter),
        ("torch.storage", "_load_from_bytes"): Function(_storage),
        ("builtins", "set"): Function(_names),
        ("_codecs", "encode"): Function(encode),
        ("numpy", "dtype"): dtype,
        ("numpy", "ndarray"): Inert(),
    }
    for place in ("numpy.core.multiarray", "numpy._core.multiarray"):
        found |= {(place, "_reconstruct"): array, (place, "scalar"): number}
    return found


class _Reader(pickle.Unpickler):
    """pickle's machine with the list of globals in the place of Python's modules."""

    def __init__(self, file: Any) -> None:
        super().__init__(file, encoding="latin1")
        self._globals = _globals()

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a global of the file."""
        if (module, name) not in self._globals:
            raise _Forbidden(f"{module}.{name}")
        return self._globals[module, name]


def read_network_pickle(path: Path) -> dict[str, PickledNetwork]:
    """The networks of a file by their roles: ``G``, ``D`` and ``G_ema``, as far as it holds them.

    Args:
        path: as published with StyleGAN2 (TensorFlow), StyleGAN2-ADA and StyleGAN3 (PyTorch). Embedded source is
            never run, and only tensors, numbers, texts and containers of them are made.

    Raises:
        InputError: if the file names a global that is not on the list (named in the message), is cut short, or holds
            something else.
    """
    return _read(path, _networks, "pickle of StyleGAN2's networks")


def read_arrays(path: Path) -> dict[str, Tensor]:
    """Names and tensors of a pickled dict of numpy arrays, as Python 2 or 3 wrote it; no content of the file is run.

    Args:
        path: of any protocol.

    Raises:
        InputError: as :func:`read_network_pickle`.
    """

    def arrays(content: Any) -> dict[str, Tensor]:
        if not isinstance(content, dict) or not all(isinstance(value, _Array) for value in content.values()):
            raise ValueError("no dict of arrays")
        return {str(name): value.tensor for name, value in content.items()}

    return _read(path, arrays, "pickle of named arrays")


def _read(path: Path, extract: Callable[[Any], Any], kind: str) -> Any:
    """Content of a file; any failure becomes one message."""
    try:
        with path.open("rb") as file, bounded(path.stat().st_size), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, about the kind of storage in which these files are written
            check_pickle(file)
            file.seek(0)
            return extract(_Reader(file).load())
    except _Forbidden as error:
        raise InputError(
            f"{path} asks for {error}, which does not belong in weights and could run code, so it was not opened: give"
            " the published file."
        ) from error
    except Exception as error:  # bytes that are no pickle, or half of one, can fail in any way
        if isinstance(error, pickle.UnpicklingError) and "nsupported" in str(error):
            trouble = "hides Python objects that could run code inside a tensor, so it was not opened"
        else:
            trouble = f"is damaged, cut short or no {kind}"
        raise InputError(f"{path} {trouble}: give the published file.") from error


def _networks(content: Any) -> dict[str, PickledNetwork]:
    if isinstance(content, tuple):
        content = dict(zip(("G", "D", "G_ema"), content, strict=True))
    if not isinstance(content, dict):
        content = {"G_ema": content}
    found: dict[str, PickledNetwork] = {}
    for role in ("G", "D", "G_ema"):
        network = content.get(role)
        if isinstance(network, _Module):
            tensors = dict(_module_tensors(network, "", set()))
            found[role] = PickledNetwork(False, tensors, dict(network.attributes.get("_init_kwargs", {})))
        elif isinstance(network, _TensorFlow):
            if int(network.content["version"]) < OLDEST_TENSORFLOW:
                raise ValueError("a network of an older program")
            tensors = dict(_variables(network, "", set()))
            found[role] = PickledNetwork(True, tensors, dict(network.content["static_kwargs"]))
    if not found:
        raise ValueError("no network")
    return found


def _once(part: Any, kind: type, visited: set[int]) -> None:
    """Refuse what is no such part, or was visited before: parts that contain each other would never end."""
    if not isinstance(part, kind) or id(part) in visited:
        raise ValueError("a part that is none")
    visited.add(id(part))


def _module_tensors(module: _Module, prefix: str, visited: set[int]) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers of a layer and of all layers in it."""
    _once(module, _Module, visited)
    for kind in ("_parameters", "_buffers"):
        for name, parameter in module.attributes[kind].items():
            if parameter is not None:
                yield f"{prefix}{name}", _parameter(parameter).tensor
    for name, inner in module.attributes["_modules"].items():
        yield from _module_tensors(inner, f"{prefix}{name}.", visited)


def _variables(network: _TensorFlow, prefix: str, visited: set[int]) -> Iterator[tuple[str, Tensor]]:
    """The variables of a TensorFlow network and of its components."""
    _once(network, _TensorFlow, visited)
    for name, value in network.content["variables"]:
        yield f"{prefix}{name}", torch.tensor(value) if isinstance(value, int | float) else value.tensor
    for name, inner in network.content["components"].items():
        yield from _variables(inner, f"{prefix}{name}/", visited)
