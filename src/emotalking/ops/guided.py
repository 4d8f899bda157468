"""Upsampling of class scores whose borders follow the edges of an image."""

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from emotalking.ops.backends import Backend, Operation, builds

GUIDED_UPSAMPLE = Operation(
    "guided_upsample",
    Backend("cpu", "emotalking.ops.cpu.guided:guided_upsample", available=builds("emotalking.ops.cpu.guided")),
    Backend("reference", "emotalking.ops.reference.guided:guided_upsample"),
)
"""Back ends have the arguments of :func:`guided_upsample`."""


def guided_upsample(
    scores: Float32[np.ndarray, "h w C"], image: UInt8[np.ndarray, "H W 3"], *, backend: str = "auto"
) -> Float32[np.ndarray, "C H W"]:
    """Upsample class scores to the image's resolution so that their borders follow its edges.

    Source: guided filter with a colour guide (He, Sun, Tang 2013), its coefficients computed small and applied large
    (He, Sun 2015). The last class is the remainder.

    Args:
        scores: probabilities that sum to 1 over the classes.
        image: RGB guide.
        backend: ``cpu`` is our kernel, ``reference`` OpenCV; ``auto`` as in `ops.backends`.

    Returns:
        One plane a class, which is what the decisions afterwards read fastest; values exceed [0, 1] slightly.

    Raises:
        NoCompiler: ``backend="cpu"`` where the kernels can be neither loaded nor compiled.
    """
    return GUIDED_UPSAMPLE.choose(backend, torch.from_numpy(scores))(scores, image)
