"""PNG files of 8 bits a channel, written fast."""

import numpy as np
import torch
from jaxtyping import Shaped, UInt8

from emotalking.ops.backends import Backend, Operation, builds

ENCODE_PNG = Operation(
    "encode_png",
    Backend("cpu", "emotalking.ops.cpu.png:encode_png", available=builds("emotalking.ops.cpu.png")),
    Backend("reference", "emotalking.ops.reference.png:encode_png"),
)
"""Back ends have the arguments of :func:`encode_png`."""
_ON_HOST = torch.empty(0)
"""Sample of numpy arrays for :meth:`Operation.choose`."""


def encode_png(
    image: Shaped[np.ndarray, "H W *C"],
    palette: UInt8[np.ndarray, "colours 3"] | None = None,
    *,
    backend: str = "auto",
) -> bytes:
    """Encode an image as PNG, about as small as zlib's fastest level makes it.

    Args:
        image: uint8, RGB or straight RGBA; without an axis of channels, numbers of the ``palette``'s colours.
        palette: RGB, at most 256.
        backend: ``cpu`` is our kernel, ``reference`` OpenCV and Pillow, at two to three times the processor time;
            ``auto`` as in `ops.backends`.

    Raises:
        NoCompiler: ``backend="cpu"`` where the kernels can be neither loaded nor compiled.
    """
    return ENCODE_PNG.choose(backend, _ON_HOST)(image, palette)
