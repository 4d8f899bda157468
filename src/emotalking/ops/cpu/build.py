"""Load the package's C++ kernels with ctypes: from the wheel, or compiled at first use."""

import atexit
import ctypes
import hashlib
import importlib.util
import logging
import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from emotalking.ops.cpu import toolchain

if TYPE_CHECKING:
    from functools import _lru_cache_wrapper

_logger = logging.getLogger(__name__)
_LEVELS = {"AVX512": ("avx512", "avx2", "base"), "AVX2": ("avx2", "base")}
"""Instruction sets by torch's name of the processor's capability, best first; any other has ``base`` alone."""
_TYPES: dict[Any, Any] = {"p": ctypes.c_void_p, "i": ctypes.c_int, "l": ctypes.c_int64, "f": ctypes.c_float}


class NoCompiler(RuntimeError):
    """The compiled CPU kernels are not available: the installation has none, and there is no C++ compiler."""


def load_library(source: str) -> ctypes.CDLL:
    """Load the library that holds ``ops/cpu/<source>``.

    A wheel brings libraries for several instruction sets; the best that this processor has is taken (as torch sees it:
    ``ATEN_CPU_CAPABILITY`` limits both). Without one, or with sources that differ from those it was built of, as in a
    checkout, the source is compiled once for this processor. The result is stored in the user's cache folder under
    a hash of source, headers, flags, compiler and processor, so an edited source or another machine never loads a stale
    build. The outcome is cached.

    Raises:
        NoCompiler: if there is none in the wheel, and neither ``$CXX`` (with its own flags), ``g++``, ``clang++`` nor
            the package ziglang is there, or it fails, or what it built cannot be kept.
    """
    library = prebuilt_library() or _compiled_library(source)
    if isinstance(library, str):
        raise NoCompiler(library)
    return library


def kernels(source: str, **arguments: Iterable[Any]) -> "_lru_cache_wrapper[ctypes.CDLL]":
    """A function that loads the library of ``source`` at its first call (:func:`load_library`), with typed functions.

    Args:
        arguments: types of each function's arguments, or letters: p a pointer, i an int, l an int64, f a float. None
            returns anything.
    """

    @cache
    def library() -> ctypes.CDLL:
        built = load_library(source)
        for name, types in arguments.items():
            function = getattr(built, name)
            function.argtypes, function.restype = [_TYPES.get(each, each) for each in types], None
        return built

    return library


@cache
def prebuilt_library() -> ctypes.CDLL | None:
    """The wheel's library of all kernels for the best instruction set of this processor; None: there is none."""
    if not toolchain.BUILT.is_dir():
        return None
    for level in _LEVELS.get(torch.backends.cpu.get_cpu_capability(), ("base",)):
        for path in toolchain.BUILT.glob(f"{toolchain.library_name(level)}.*"):
            try:
                return ctypes.CDLL(str(path))
            except OSError as error:
                _logger.warning("could not load %s: %s", path, error)
    return None


@cache
def _compiled_library(source: str) -> ctypes.CDLL | str:
    """The library, or the reason that it cannot be built."""
    compiler = _compiler()
    if not compiler:
        return "no C++ compiler found: install g++ or clang++, or 'emotalking[compiler]', for the fast CPU kernels"
    try:
        return _compile(source, compiler)
    except subprocess.CalledProcessError as error:
        return f"{' '.join(compiler)} could not build {source}: {error.stderr[:2000]}"
    except OSError as error:
        return f"{' '.join(compiler)} could not build {source}: {error}"


def _compiler() -> list[str]:
    """Command of the C++ compiler; empty: there is none."""
    if chosen := shlex.split(os.environ.get("CXX", "")):
        return chosen
    if found := shutil.which("g++") or shutil.which("clang++"):
        return [found]
    return [sys.executable, "-m", "ziglang", "c++"] if importlib.util.find_spec("ziglang") else []


def _compile(source: str, compiler: list[str]) -> ctypes.CDLL:
    """Build the library in the first folder that can keep it, or load what an earlier run built there."""
    path = toolchain.SOURCES / source
    flags = ("-march=native", "-shared", *toolchain.FLAGS)
    version = subprocess.run([*compiler, "--version"], capture_output=True, check=False).stdout
    parts = (path.read_bytes(), toolchain.headers(), " ".join(flags).encode(), version, _cpu_flags().encode())
    key = hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
    problem = OSError("no folder for it")
    for folder in _cache_folders():
        library = folder / f"{path.stem}-{key}.so"
        try:
            if not library.exists():
                with tempfile.TemporaryDirectory(dir=folder) as scratch:
                    built = Path(scratch) / "kernel.so"
                    # zig keeps what it makes of its own runtime library
                    environment = os.environ | {
                        "ZIG_GLOBAL_CACHE_DIR": str(folder / "zig"),
                        "ZIG_LOCAL_CACHE_DIR": scratch,
                    }
                    command = [*compiler, *flags, str(path), "-o", str(built)]
                    subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
                    os.replace(built, library)
            return ctypes.CDLL(str(library))
        except OSError as error:  # also a folder from which nothing may be executed
            problem = error
    raise problem


def _cpu_flags() -> str:
    """The CPU's feature list: a cached library built for another CPU must not be loaded."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine() + platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _cache_folders() -> Iterator[Path]:
    """Folders for compiled libraries, best first.

    Loading a library runs its code, so a folder in which another user could have put one is passed over: the user's
    cache, then one of this user in the folder for temporary files, then one of this process.
    """
    user = os.geteuid() if hasattr(os, "geteuid") else "user"
    home = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(home):
        home = os.path.join(os.path.expanduser("~"), ".cache")
    shared = [Path(home) / "emotalking" / "libraries", Path(tempfile.gettempdir()) / f"emotalking-libraries-{user}"]
    yield from (folder for folder in shared if folder.is_absolute() and _is_private(folder))
    yield _process_folder()


def _is_private(folder: Path) -> bool:
    """True if this user owns the folder, which is made if need be, and only this user can write into it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()  # not of what a link names
    except OSError:
        return False
    if not stat.S_ISDIR(status.st_mode) or not os.access(folder, os.W_OK):
        return False
    if not hasattr(os, "geteuid"):  # Windows: both folders lie in the user's profile
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


@cache
def _process_folder() -> Path:
    """A folder that is removed when the process ends."""
    folder = tempfile.mkdtemp(prefix="emotalking-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
