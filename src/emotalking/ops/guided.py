"""Upsampling of class scores whose borders follow the edges of an image, down to which class is ahead."""

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from emotalking.ops.backends import Backend, Operation, builds

GUIDED_RANKS = Operation(
    "guided_ranks",
    Backend("cpu", "emotalking.ops.cpu.guided:guided_ranks", available=builds("emotalking.ops.cpu.guided")),
    Backend("reference", "emotalking.ops.reference.guided:guided_ranks"),
)
"""Back ends have the arguments of :func:`guided_ranks`."""


def guided_ranks(
    scores: Float32[np.ndarray, "h w C"], image: UInt8[np.ndarray, "H W 3"], *, backend: str = "auto"
) -> UInt8[np.ndarray, "H W"]:
    """Order of class scores at the image's resolution, upsampled so that their borders follow its edges.

    Source: guided filter with a colour guide (He, Sun, Tang 2013), its coefficients computed small and applied large
    (He, Sun 2015). The last class is the remainder.

    Args:
        scores: probabilities that sum to 1 over the classes, at most nine.
        image: RGB guide.
        backend: ``cpu`` is our kernel, ``reference`` OpenCV; ``auto`` as in `ops.backends`.

    Returns:
        Bit k is set where class k + 1 has a higher score than all classes before it: the highest bit tells the
        likeliest class, the highest of the first n bits that among the first n + 1. To write and read the scores
        themselves would take a third longer.

    Raises:
        NoCompiler: ``backend="cpu"`` where the kernels can be neither loaded nor compiled.
    """
    return GUIDED_RANKS.choose(backend, torch.from_numpy(scores))(scores, image)
