"""The compiled operations behind `emotalking.ops.regions`."""

import ctypes
from collections.abc import Sequence
from functools import cache

import numpy as np

from emotalking.ops.cpu.build import load_library


@cache
def library() -> ctypes.CDLL:
    """The compiled kernels, loaded at the first call.

    Raises:
        NoCompiler: the installation brings none, and there is no working C++ compiler.
    """
    built = load_library("regions.cpp")
    pointer, number = ctypes.c_void_p, ctypes.c_int
    built.connected_to.argtypes = (pointer, pointer, number, number, number, pointer)
    built.fill_holes.argtypes = (pointer, number, number, number)
    built.absorb_islands.argtypes = (pointer, number, number, number, pointer, number, number, pointer)
    for name in ("connected_to", "fill_holes", "absorb_islands"):
        getattr(built, name).restype = None
    return built


def connected_to(mask: np.ndarray, marker: np.ndarray, most: bool) -> np.ndarray:
    """See :func:`emotalking.ops.regions.connected_to`."""
    mask, marker = np.ascontiguousarray(mask), np.ascontiguousarray(marker)
    out = np.empty(mask.shape, bool)
    library().connected_to(mask.ctypes.data, marker.ctypes.data, *mask.shape, most, out.ctypes.data)
    return out


def fill_holes(mask: np.ndarray, smallest: int) -> np.ndarray:
    """See :func:`emotalking.ops.regions.fill_holes`."""
    out = np.array(mask, order="C")
    library().fill_holes(out.ctypes.data, *out.shape, smallest)
    return out


def absorb_islands(
    labels: np.ndarray, label: int, others: Sequence[int], smallest: int, root: np.ndarray | None
) -> None:
    """See :func:`emotalking.ops.regions.absorb_islands`."""
    whole, given = np.ascontiguousarray(labels), np.array(others, np.uint8)
    root = None if root is None else np.ascontiguousarray(root)
    at = None if root is None else root.ctypes.data
    library().absorb_islands(whole.ctypes.data, *whole.shape, int(label), given.ctypes.data, len(given), smallest, at)
    if whole is not labels:
        labels[...] = whole
