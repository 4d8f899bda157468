"""The compiled operations behind `emotalking.ops.regions`."""

from collections.abc import Sequence

import numpy as np

from emotalking.ops.cpu.build import kernels

library = kernels("regions.cpp", connected_to="ppiiip", fill_holes="piii", absorb_islands="piiipiip")


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
