"""Compile the package's C++ kernels at first use and load them with ctypes."""

import ctypes
import hashlib
import os
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
    """The processor's feature list: a cached library built for another processor must not be loaded."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        import platform

        return platform.machine() + platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


@cache
def load_library(source: str, extra_flags: tuple[str, ...] = ()) -> ctypes.CDLL:
    """Build ``ops/cpu/<source>`` once for this processor and load it.

    The library lies in the user's cache folder under a hash of source, headers, flags, compiler and processor, so an
    edited source or another machine never meets a stale build.

    Raises:
        NoCompiler: if neither ``$CXX``, ``g++`` nor ``clang++`` is there, or it fails.
    """
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        raise NoCompiler("no C++ compiler found: install g++ or clang++ for the fast CPU kernels")
    path = _SOURCES / source
    flags = (*FLAGS, *extra_flags)
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout
    headers = (header.read_text() for header in sorted(_SOURCES.glob("*.h")))
    key = hashlib.sha256("\0".join((path.read_text(), *headers, *flags, version, _cpu_flags())).encode()).hexdigest()[
        :16
    ]
    library = _cache_dir() / f"{path.stem}-{key}.so"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
            built = Path(scratch) / "kernel.so"
            run = subprocess.run(
                [compiler, *flags, str(path), "-o", str(built)], capture_output=True, text=True, check=False
            )
            if run.returncode:
                raise NoCompiler(f"{compiler} could not build {source}: {run.stderr[:2000]}")
            os.replace(built, library)
    return ctypes.CDLL(str(library))
