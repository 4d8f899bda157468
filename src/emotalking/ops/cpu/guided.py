"""The compiled guided upsampling behind `emotalking.ops.guided`."""

import numpy as np

from emotalking.ops.cpu.build import kernels
from emotalking.ops.reference.guided import EPSILON, shrink

library = kernels("guided.cpp", guided_upsample="pppiiiiifp")


def guided_upsample(scores: np.ndarray, image: np.ndarray) -> np.ndarray:
    """See :func:`emotalking.ops.guided.guided_upsample`."""
    small, classes = np.ascontiguousarray(shrink(image, scores)), scores.shape[-1]
    scores, image = np.ascontiguousarray(scores), np.ascontiguousarray(image)
    out = np.empty((classes, *image.shape[:2]), np.float32)
    library().guided_upsample(
        *(each.ctypes.data for each in (scores, small, image)), classes, *scores.shape[1::-1], *image.shape[1::-1],
        EPSILON, out.ctypes.data,
    )  # fmt: skip
    return out
