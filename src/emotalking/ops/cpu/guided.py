"""The compiled guided upsampling behind `emotalking.ops.guided`."""

import numpy as np

from emotalking.ops.cpu.build import kernels
from emotalking.ops.reference.guided import EPSILON, shrink

library = kernels("guided.cpp", guided_ranks="pppiiiiifp")


def guided_ranks(scores: np.ndarray, image: np.ndarray) -> np.ndarray:
    """See :func:`emotalking.ops.guided.guided_ranks`."""
    small, classes = np.ascontiguousarray(shrink(image, scores)), scores.shape[-1]
    scores, image = np.ascontiguousarray(scores), np.ascontiguousarray(image)
    out = np.empty(image.shape[:2], np.uint8)
    library().guided_ranks(
        *(each.ctypes.data for each in (scores, small, image)), classes, *scores.shape[1::-1], *image.shape[1::-1],
        EPSILON, out.ctypes.data,
    )  # fmt: skip
    return out
