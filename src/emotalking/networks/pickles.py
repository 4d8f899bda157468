"""Shared by the readers of untrusted pickles: stand-ins that a file cannot change, and bounds on its memory."""

import pickle
import pickletools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from io import BufferedIOBase
from typing import IO, Any, cast

from torch import Tensor

SPARE = 1 << 20
"""Bytes that a file may make beyond its own size."""
_LEFT: ContextVar[int] = ContextVar("bytes that the file may still make")


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


def check_memo(file: BufferedIOBase) -> None:
    """Refuse a pickle that requests a memo larger than itself; ``file`` is where it was.

    pickle's machine makes a table as long as the largest number that a file gives to one of its objects.

    Raises:
        UnpicklingError: there is such a number.
        ValueError: the bytes are no pickle.
    """
    begin = file.tell()
    for operation, argument, position in pickletools.genops(cast("IO[bytes]", file)):
        if "PUT" in operation.name and isinstance(argument, int) and argument > (position or 0):
            raise pickle.UnpicklingError("a memo larger than itself")
    file.seek(begin)
