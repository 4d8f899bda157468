"""Connected parts of masks and label maps: what hangs together with a marker, holes, islands."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, UInt8

from emotalking.ops.backends import Backend, Operation, builds

_ON_HOST = torch.empty(0)
"""Sample of numpy arrays for :meth:`Operation.choose`."""


def _operation(name: str) -> Operation:
    """``name`` of ops/cpu/regions.py and of ops/reference/regions.py."""
    cpu = Backend("cpu", f"emotalking.ops.cpu.regions:{name}", available=builds("emotalking.ops.cpu.regions"))
    return Operation(name, cpu, Backend("reference", f"emotalking.ops.reference.regions:{name}"))


CONNECTED_TO = _operation("connected_to")
FILL_HOLES = _operation("fill_holes")
ABSORB_ISLANDS = _operation("absorb_islands")


def connected_to(
    mask: Bool[np.ndarray, "H W"], marker: Bool[np.ndarray, "H W"], *, most: bool = False, backend: str = "auto"
) -> Bool[np.ndarray, "H W"]:
    """Parts of a mask, connected along the axes, that hold a pixel of a marker.

    Args:
        mask: contiguous, as all arrays of this module.
        marker: what it is outside the mask does not count.
        most: only the part that holds most of the marker (the first one of several).
        backend: ``cpu`` is our kernel, ``reference`` OpenCV; ``auto`` as in `ops.backends`.

    Raises:
        NoCompiler: ``backend="cpu"`` where the kernels can be neither loaded nor compiled.
    """
    return CONNECTED_TO.choose(backend, _ON_HOST)(mask, marker, most)


def fill_holes(mask: Bool[np.ndarray, "H W"], smallest: int, *, backend: str = "auto") -> Bool[np.ndarray, "H W"]:
    """A mask with the parts of its complement that have less than ``smallest`` pixels, those at the border too.

    Raises:
        NoCompiler: as :func:`connected_to`.
    """
    return FILL_HOLES.choose(backend, _ON_HOST)(mask, smallest)


def absorb_islands(
    labels: UInt8[np.ndarray, "H W"],
    label: int,
    others: Sequence[int],
    smallest: int,
    root: Bool[np.ndarray, "H W"] | None = None,
    *,
    backend: str = "auto",
) -> None:
    """Give islands of ``label`` to that of ``others`` which borders them most (the first of several), in place.

    Islands are connected parts below ``smallest`` pixels, and those of any size without a pixel of ``root``. One that
    borders none of the others stays.

    Raises:
        NoCompiler: as :func:`connected_to`.
    """
    ABSORB_ISLANDS.choose(backend, _ON_HOST)(labels, label, others, smallest, root)
