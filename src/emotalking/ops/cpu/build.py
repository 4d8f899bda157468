"""Compile the package's C++ kernels at first use and load them with ctypes."""

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-pthread", "-fno-math-errno", "-ffp-contract=fast")
_SOURCES = Path(__file__).parent


class NoCompiler(RuntimeError):
    """No C++ compiler was found, so the compiled CPU kernels are not available."""


def _cache_dir() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "emotalking" / "kernels"


def _cpu_flags() -> str:
    """The CPU's feature list: a cached library built for another CPU must not be loaded."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        import platform

        return platform.machine() + platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def load_library(source: str) -> ctypes.CDLL:
    """Build ``ops/cpu/<source>`` once for this CPU and load it.

    The library is stored in the user's cache folder under a hash of source, headers, flags, compiler and CPU, so an
    edited source or another machine never loads a stale build. The outcome is cached.

    Raises:
        NoCompiler: if neither ``$CXX`` (with its own flags), ``g++`` nor ``clang++`` is there, or it fails, or what it
            built cannot be kept.
    """
    library = _library(source)
    if isinstance(library, str):
        raise NoCompiler(library)
    return library


@cache
def _library(source: str) -> ctypes.CDLL | str:
    """The library, or the reason that it cannot be built."""
    compiler = shlex.split(os.environ.get("CXX", "")) or [shutil.which("g++") or shutil.which("clang++") or ""]
    if not compiler[0]:
        return "no C++ compiler found: install g++ or clang++ for the fast CPU kernels"
    try:
        return _build(source, compiler)
    except subprocess.CalledProcessError as error:
        return f"{' '.join(compiler)} could not build {source}: {error.stderr[:2000]}"
    except OSError as error:
        return f"{' '.join(compiler)} could not build {source}: {error}"


def _build(source: str, compiler: list[str]) -> ctypes.CDLL:
    path = _SOURCES / source
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=False).stdout
    headers = (header.read_text() for header in sorted(_SOURCES.glob("*.h")))
    parts = (path.read_text(), *headers, *FLAGS, version, _cpu_flags())
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    library = _cache_dir() / f"{path.stem}-{key}.so"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
            built = Path(scratch) / "kernel.so"
            subprocess.run([*compiler, *FLAGS, str(path), "-o", str(built)], capture_output=True, text=True, check=True)
            os.replace(built, library)
    return ctypes.CDLL(str(library))
