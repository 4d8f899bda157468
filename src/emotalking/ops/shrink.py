"""Images shrunk by means."""

import numpy as np
import torch
from jaxtyping import UInt8

from emotalking.ops.backends import Backend, Operation, builds

SHRINK = Operation(
    "shrink",
    Backend("cpu", "emotalking.ops.cpu.shrink:shrink", available=builds("emotalking.ops.cpu.shrink")),
    Backend("reference", "emotalking.ops.reference.shrink:shrink"),
)
"""Back ends have the arguments of :func:`shrink`."""
_ON_HOST = torch.empty(0)
"""Sample of numpy arrays for :meth:`Operation.choose`."""


def shrink(
    image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int], *, backend: str = "auto"
) -> UInt8[np.ndarray, "h w 3"]:
    """Each pixel of the result is the mean of what it covers.

    Args:
        image: RGB; may be a part of a larger one.
        size: width and height of the result, not larger than the image's.
        backend: ``cpu`` is our kernel, ``reference`` OpenCV, whose images differ from it by a level in a pixel of a
            hundred thousand, in two to five times the time; ``auto`` as in `ops.backends`.

    Raises:
        ValueError: the result would be larger.
        NoCompiler: ``backend="cpu"`` where the kernels can be neither loaded nor compiled.
    """
    if size[0] > image.shape[1] or size[1] > image.shape[0]:
        raise ValueError(f"size: expected at most {image.shape[1]} x {image.shape[0]}, got {size[0]} x {size[1]}")
    return SHRINK.choose(backend, _ON_HOST)(image, size)
