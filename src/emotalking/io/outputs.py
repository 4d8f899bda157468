"""Inputs and outputs of every verb, compared before the work begins: nothing of the user's is overwritten by surprise.

A verb's signature says which parameters are read and which are written (``options.Reads``, ``options.Writes``).
:func:`checked` refuses, of any verb: an output that is an input or another output, by whatever name or link; a file of
another kind than the one that is written, unless it may be overwritten; and a place that cannot be written to.
"""

import dataclasses
import errno
import functools
import inspect
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar, get_args, get_origin

from emotalking.errors import InputError
from emotalking.io.files import holding, remove_stale, remove_stale_within, written_through
from emotalking.io.kinds import KINDS, Kind
from emotalking.io.reading import reason
from emotalking.options import Reads, Writes

P = ParamSpec("P")
R = TypeVar("R")
Place = tuple[Path, Kind]
"""An output and what is written there."""


def checked(verb: Callable[P, R]) -> Callable[P, R]:
    """Compare a verb's inputs and outputs before each call, and hold its folders meanwhile.

    Raises:
        InputError: of the verb: an output cannot be written or would destroy something, or a folder is in use.
    """

    @functools.wraps(verb)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        given = inspect.signature(verb).bind(*args, **kwargs)
        given.apply_defaults()
        with claimed([verb], given.arguments):
            return verb(*args, **kwargs)

    return call


@contextmanager
def claimed(
    functions: Sequence[Callable[..., object]], values: Mapping[str, object], *, hold: bool = True
) -> Iterator[None]:
    """Check the inputs and outputs of a call, and hold its folders within the block.

    Args:
        functions: which declare the parameters.
        values: arguments by name.
        hold: lock the folders.

    Raises:
        InputError: as :func:`checked`.
    """
    inputs, outputs, held = _places(functions, values)
    _compare(inputs, outputs, overwrite=bool(values.get("overwrite", False)))
    for path, kind in outputs:
        remove_stale_within(path) if kind.folder else remove_stale(written_through(path))
    with ExitStack() as stack:
        if hold:
            for path, kind in outputs:
                if kind.folder and not (kind.updates and path in inputs and not path.exists()):
                    stack.enter_context(holding(path))
            for path in held:
                if path.is_dir():
                    stack.enter_context(holding(path, shared=True))
        yield


def roles(function: Callable[..., object]) -> dict[str, Reads | Writes | None]:
    """Parameters of a function by name, those of its configs as ``config.field``, with what is declared of each."""
    found: dict[str, Reads | Writes | None] = {}
    for one in inspect.signature(function).parameters.values():
        found[one.name] = _role(one.annotation)
        if dataclasses.is_dataclass(one.default):
            found |= {f"{one.name}.{entry.name}": _role(entry.type) for entry in dataclasses.fields(one.default)}
    return found


def _role(annotation: Any) -> Reads | Writes | None:
    notes = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    return next((note for note in notes if isinstance(note, Reads | Writes)), None)


def _places(
    functions: Sequence[Callable[..., object]], values: Mapping[str, object]
) -> tuple[list[Path], list[Place], list[Path]]:
    """Inputs, outputs, and the inputs that no other command may write meanwhile."""
    inputs: list[Path] = []
    outputs: list[Place] = []
    held: list[Path] = []
    for function in functions:
        for name, role in roles(function).items():
            first, _, field = name.partition(".")
            value = getattr(values.get(first), field, None) if field else values.get(first)
            if isinstance(role, Reads):
                inputs += _paths(value)
                held += _paths(value) if role.held else []
            elif isinstance(role, Writes):
                if value is None and role.default is not None:
                    folder, _, file = role.default.partition("/")
                    value = [Path(path) / file for path in _paths(values.get(folder))[:1]]
                outputs += [(path, KINDS[role.kind].of(path)) for path in _paths(value)]
    return inputs, outputs, held


def _paths(value: object) -> list[Path]:
    """Paths in an argument; what only a program gives (arrays, loaded objects) has none."""
    if isinstance(value, str | Path):
        return [Path(value)]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [path for item in value for path in _paths(item)] if isinstance(value, list | tuple) else []


def _compare(inputs: Sequence[Path], outputs: Sequence[Place], *, overwrite: bool) -> None:
    for number, (path, kind) in enumerate(outputs):
        try:
            for other in inputs:
                _check_against(path, kind, other)
            for other, _ in outputs[:number]:
                if same(path, other):
                    raise InputError(f"two results are to be written to {path}: give each its own name.")
            _check_content(path, kind, overwrite)
            _check_place(path, kind)
        except OSError as error:
            raise InputError(f"{path} cannot be written ({reason(error)}): choose another name.") from error


def same(one: Path, other: Path) -> bool:
    """True if both names are of one file or folder, by any links and in any letter case that the file system ignores.

    Raises:
        OSError: a name is too long, or links lead in a circle.
    """
    one, other = written_through(one), written_through(other)
    if _exists(one) and _exists(other):
        return os.path.samefile(one, other)
    if _exists(one) or _exists(other):
        return False
    if not same_folder(one.parent, other.parent):
        return False
    return one.name == other.name or (one.name.casefold() == other.name.casefold() and _ignores_case(one.parent))


def same_folder(one: Path, other: Path) -> bool:
    """True if both are one folder, which need not be there."""
    if _exists(one) and _exists(other):
        return os.path.samefile(one, other)
    return os.path.realpath(one) == os.path.realpath(other)


def _ignores_case(folder: Path) -> bool:
    """True if the file system of a folder takes ``a`` and ``A`` for one name."""
    there = next(one for one in (folder.absolute(), *folder.absolute().parents) if _exists(one))
    swapped = Path(str(there).swapcase())
    return str(swapped) != str(there) and _exists(swapped) and os.path.samefile(there, swapped)


def _exists(path: Path) -> bool:
    """True if something is there.

    Raises:
        OSError: this cannot be known, such as of a name that is too long.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _within(path: Path, folder: Path) -> bool:
    """True if ``path`` lies in a folder that is there, at any depth."""
    return any(_exists(one) and os.path.samefile(one, folder) for one in Path(os.path.realpath(path)).parents)


def _check_against(path: Path, kind: Kind, source: Path) -> None:
    """Refuse to write onto, or into what belongs to, an input."""
    try:
        if not _exists(source):
            return
    except OSError:  # the verb itself says what is wrong with it
        return
    if same(path, source) and not kind.updates:
        raise InputError(f"{path} is both an input and the result: give the result another name.")
    if source.is_dir() and not kind.distinct and _exists(path) and _within(path, source):
        if not path.is_dir() or any(path.iterdir()):
            raise InputError(f"{path} belongs to the input {source}: give the result another name.")
    if kind.folder and kind.owns(source.name) and path.is_dir() and not source.is_dir() and _within(source, path):
        raise InputError(f"the input {source} lies in the folder {path} of the result: choose another folder.")


def _check_content(path: Path, kind: Kind, overwrite: bool) -> None:
    """Refuse to replace what is not of the kind that is written."""
    if not _exists(path):
        return
    if kind.folder:
        if not path.is_dir():
            raise InputError(f"{path} is a file: give a folder.")
        foreign = kind.foreign(path)
        if foreign is not None:
            raise InputError(f"{path} holds {foreign}, which is no {kind.what}: choose another folder.")
        return
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the name of a file{kind.example}.")
    target = written_through(path)
    if not target.is_file():  # a device or a pipe
        return
    mode = target.stat().st_mode
    if not mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH) or not os.access(target, os.W_OK):
        raise InputError(f"{path} is write-protected: choose another name, or allow writing to it.")
    if not overwrite and target.stat().st_size and not kind.recognises(target):
        raise InputError(f"{path} exists and is no {kind.what}: choose another name, or allow overwriting.")


def _check_place(path: Path, kind: Kind) -> None:
    """Refuse a place that cannot be written to, or is full.

    Raises:
        OSError: a part of the path is no folder, too long or forbidden.
    """
    target = written_through(path)
    _exists(target)  # raises for a name that is too long
    if target.exists() and not target.is_dir() and not target.is_file():
        return
    start = target if kind.folder else target.parent
    there = next(one for one in (start.absolute(), *start.absolute().parents) if os.path.lexists(one))
    if not there.is_dir():
        raise OSError(errno.ENOTDIR, f"{there} is not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        read_only = bool(os.statvfs(there).f_flag & os.ST_RDONLY) if hasattr(os, "statvfs") else False
        raise OSError(errno.EACCES, "read-only file system" if read_only else f"no permission to write to {there}")
    if shutil.disk_usage(there).free < kind.space:
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: at least {kind.space / 1e6:.0f} MB are needed")
