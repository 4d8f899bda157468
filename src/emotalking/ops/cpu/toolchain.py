"""What the two ways to compile the C++ kernels share: for a wheel (setup.py) and at first use (``build.py``).

Only the standard library: setup.py runs this file before the package is installed.
"""

import hashlib
from pathlib import Path

SOURCES = Path(__file__).parent
BUILT = SOURCES / "built"
"""Folder of the libraries that a wheel brings; a checkout has none."""
FLAGS = ("-O3", "-std=c++17", "-fPIC", "-pthread", "-fno-math-errno", "-ffp-contract=fast")


def headers() -> bytes:
    """Content of all headers, in the order of their names."""
    return b"\0".join(path.read_bytes() for path in sorted(SOURCES.glob("*.h")))


def library_name(level: str) -> str:
    """Name, without suffix, of a wheel's library of all kernels for one instruction set.

    It carries a hash of the sources, so that edited sources never meet a library of others.

    Args:
        level: ``avx512`` (F, BW, DQ, VL), ``avx2`` (with FMA), or ``base`` (SSE2 on x86-64, NEON on AArch64).
    """
    code = (path.read_bytes() for path in sorted(SOURCES.glob("*.cpp")))
    key = hashlib.sha256(b"\0".join((*code, headers()))).hexdigest()[:16]
    return f"kernels-{level}-{key}"
