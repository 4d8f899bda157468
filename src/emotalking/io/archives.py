"""Zip archives and pickles of unknown origin: their claims, compared with their size before anything is made."""

import io
import pickle
import pickletools
import zipfile
from collections.abc import Iterator
from io import BufferedIOBase
from typing import IO, Any, cast

SPARE, DENSEST = 64 << 20, 20
"""An archive may expand to so many bytes, or to so many times its size: compressed floats stay below 20 times, and
masks and zeros of a clip below 64 MiB."""
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Ways in which a part may be stored: a few bytes of LZMA can demand a dictionary of 4 GiB."""
_MARK = -1
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_OPERATIONS = {operation.code.encode("latin1"): operation for operation in pickletools.opcodes}
_KEYS = {"SETITEM": 2, "SETITEMS": 2, "DICT": 2, "ADDITEMS": 1, "FROZENSET": 1}
"""Operations that make keys, and the step from one to the next among the values they take, from the last one back."""
_MOST_CHOSEN_HASHES = 1000
_FETCHES = ("GET", "BINGET", "LONG_BINGET")


def check_archive(archive: zipfile.ZipFile, size: int) -> None:
    """Refuse an archive of ``size`` bytes whose directory announces far more.

    Raises:
        ValueError: it would expand to far more than its size, is packed in another way than by deflation, or has a
            part that is longer than the whole.
    """
    parts = archive.infolist()
    if sum(part.file_size for part in parts) > max(SPARE, DENSEST * size):
        raise ValueError("it would expand to far more than its size")
    if any(part.compress_size > size for part in parts):  # Python allocates what it is asked to read
        raise ValueError("it is cut short, or a part of it is longer than all of it")
    if any(part.compress_type not in PACKINGS for part in parts):
        raise ValueError("it is packed in an unusual way")


def check_pickle(file: BufferedIOBase) -> None:
    """Refuse a pickle that would make Python's machine allocate or compute without bound; ``file`` goes behind it.

    The machine makes a table (the memo) as long as the largest number that a file gives to one of its objects. Tuples
    (and frozen sets) that contain each other twice over the memo double their number of elements at every level, and
    Python visits them all when one is a key. Keys of one hash are compared each with each: tuples, and integers of more
    than 64 bits, can be chosen so (texts cannot, and there are few such smaller numbers).

    Raises:
        UnpicklingError: there is such a number, or there are such tuples or more than some such keys.
        ValueError, IndexError, KeyError: the bytes are no pickle.
    """
    sizes: list[int] = []  # of the tuples on the machine's stack, in elements; other objects count 1
    memo: dict[Any, int] = {}
    visits = chosen = 0
    bounded = _Bounded(file)
    for operation, argument, position in _operations(bounded):
        name = operation.name
        if name == "FRAME" and argument > bounded.left:  # it is read at once, before its content
            raise pickle.UnpicklingError("a frame larger than the file")
        if "PUT" in name:
            if isinstance(argument, int) and argument > (position or 0):
                raise pickle.UnpicklingError("a memo larger than itself")
            memo[argument] = sizes[-1]
            continue
        if name == "MEMOIZE":
            memo[len(memo)] = sizes[-1]
            continue
        if name == "MARK":
            sizes.append(_MARK)
            continue
        if name in _FETCHES:
            pushed = [memo[argument]]
        elif name == "DUP":
            pushed = [sizes[-1]]
        elif name in _TUPLES:
            pushed = [1 + sum(_popped(sizes, _TUPLES[name]))]
        else:
            before = [each.name for each in operation.stack_before]
            taken: list[int] = []
            if "mark" in before:
                taken = _popped_to_mark(sizes)
                before = before[: before.index("mark")]
            taken += _popped(sizes, len(before))
            pushed = [1] * len(operation.stack_after)
            if name in ("TUPLE", "FROZENSET"):
                pushed = [1 + sum(taken)]
            if step := _KEYS.get(name):
                chosen += sum(size > 1 for size in taken[step - 1 :: step])
        chosen += isinstance(argument, int) and argument.bit_length() > 64
        if chosen > _MOST_CHOSEN_HASHES:
            raise pickle.UnpicklingError("keys whose hashes may be the same")
        sizes += pushed
        visits += sum(pushed)
        if visits > 1_000_000 + 100 * (position or 0):
            raise pickle.UnpicklingError("tuples within tuples without end")


def _operations(file: "_Bounded") -> Iterator[tuple[pickletools.OpcodeInfo, Any, int]]:
    """As :func:`pickletools.genops`, which refuses protocol 0's strings of bytes above 127."""
    operation = None
    while operation is None or operation.name != "STOP":
        position, code = file.tell(), file.read(1)
        operation = _OPERATIONS.get(code)
        if operation is None:
            raise ValueError("no pickle")
        if operation.name == "STRING":
            if not file.readline().endswith(b"\n"):
                raise ValueError("a string without an end")
            yield operation, None, position
        else:
            yield operation, None if operation.arg is None else operation.arg.reader(cast("IO[bytes]", file)), position


class _Bounded:
    """A file of which no more is requested than it has: else a claimed length is allocated before it is read."""

    def __init__(self, file: BufferedIOBase) -> None:
        self._file = file
        here = file.tell()
        self._end = file.seek(0, io.SEEK_END)
        file.seek(here)
        self.readline, self.tell = file.readline, file.tell

    @property
    def left(self) -> int:
        """Bytes that are there."""
        return self._end - self._file.tell()

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes."""
        return self._file.read(min(size, self.left))


def _popped(sizes: list[int], count: int) -> list[int]:
    taken = [sizes.pop() for _ in range(count)]
    if _MARK in taken:
        raise ValueError("a mark among the values")
    return taken


def _popped_to_mark(sizes: list[int]) -> list[int]:
    taken = []
    while (size := sizes.pop()) != _MARK:
        taken.append(size)
    return taken
