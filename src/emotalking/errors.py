"""Exceptions that speak to a user.

A message is one sentence: what is wrong, where, and what to do. The command line prints it without a traceback and
exits with code 2 for an :class:`InputError`; library users catch it like any other exception.
"""

import re
from typing import Literal

_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""Control characters, those that turn the direction of text, and bytes of names that are no UTF-8."""


class EmotalkingError(Exception):
    """Base class of every error that this package raises on purpose."""


class InputError(EmotalkingError):
    """A file, an argument or a setting cannot be used."""


class NoFaceError(InputError):
    """An image or a clip shows no face that can be used."""


class MissingModelError(InputError):
    """A checkpoint of an optional pretrained model is missing."""


class MissingPackageError(InputError):
    """An optional package is not installed."""


class DeviceError(InputError):
    """A device does not exist, cannot be used, or its memory is full."""


_NO_MEMORY = ("can't allocate memory", "failed to map segment", "Cannot allocate memory")
"""Words of PyTorch's allocator, of the loader of shared libraries, and of the operating system within other errors."""


def memory_full(error: BaseException) -> Literal["the memory", "the GPU's memory"] | None:
    """The memory that an exception says is full; None: it says something else."""
    if isinstance(error, MemoryError):
        return "the memory"
    if isinstance(error, RuntimeError | ImportError) and any(words in str(error) for words in _NO_MEMORY):
        return "the memory"
    return "the GPU's memory" if type(error).__name__ == "OutOfMemoryError" else None  # torch's, without importing it


def printable(text: str) -> str:
    """Text for a terminal: what would control it is shown escaped; names and metadata of files may hold anything."""
    return _UNPRINTABLE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that Python could not decode
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
