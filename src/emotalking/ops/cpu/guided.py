"""The compiled guided upsampling behind `emotalking.ops.guided`."""

import ctypes
from functools import cache

import numpy as np

from emotalking.ops.cpu.build import load_library
from emotalking.ops.reference.guided import EPSILON, shrink


@cache
def library() -> ctypes.CDLL:
    """The compiled kernel, loaded at the first call.

    Raises:
        NoCompiler: the installation brings none, and there is no working C++ compiler.
    """
    built = load_library("guided.cpp")
    pointer, number = ctypes.c_void_p, ctypes.c_int
    built.guided_upsample.argtypes = (*[pointer] * 3, *[number] * 5, ctypes.c_float, pointer)
    built.guided_upsample.restype = None
    return built


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
