"""Connected parts in OpenCV and numpy: the back end where there is no compiled one."""

from collections.abc import Sequence

import cv2
import numpy as np


def _parts(mask: np.ndarray) -> tuple[int, np.ndarray]:
    """Number of connected parts with what is not the mask, and each pixel's; that has number 0."""
    count, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    return count, np.asarray(parts, np.int32)


def connected_to(mask: np.ndarray, marker: np.ndarray, most: bool) -> np.ndarray:
    """See :func:`emotalking.ops.regions.connected_to`."""
    count, parts = _parts(mask)
    held = np.bincount(parts[marker & mask], minlength=count)
    return np.asarray((parts == held.argmax()) & held.any() if most else (held > 0)[parts])


def fill_holes(mask: np.ndarray, smallest: int) -> np.ndarray:
    """See :func:`emotalking.ops.regions.fill_holes`."""
    count, parts = _parts(~mask)
    small = np.bincount(parts.ravel(), minlength=count) < smallest
    small[0] = False  # the mask itself
    return mask | small[parts]


def absorb_islands(
    labels: np.ndarray, label: int, others: Sequence[int], smallest: int, root: np.ndarray | None
) -> None:
    """See :func:`emotalking.ops.regions.absorb_islands`."""
    count, parts = _parts(labels == label)
    areas = np.bincount(parts.ravel(), minlength=count)
    for number in range(1, count):
        island = parts == number
        if areas[number] >= smallest and (root is None or (island & root).any()):
            continue
        rim = cv2.dilate(island.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & ~island
        beside = np.bincount(labels[rim], minlength=256)
        best = max(others, key=lambda other: beside[other])
        if beside[best]:
            labels[island] = best
