"""The compiled operation behind `emotalking.ops.materials`."""

import ctypes
from functools import cache
from typing import Any

import numpy as np

from emotalking.ops.cpu.build import load_library
from emotalking.ops.reference.materials import ANYWHERE, HANGING, IMPOSSIBLE


@cache
def library() -> ctypes.CDLL:
    """The compiled kernel, loaded at the first call.

    Raises:
        NoCompiler: the installation brings none, and there is no working C++ compiler.
    """
    built = load_library("materials.cpp")
    pointer, number = ctypes.c_void_p, ctypes.c_float
    built.material_posteriors.argtypes = (*[pointer] * 10, *[number] * 3, ctypes.c_int64, pointer)
    built.material_posteriors.restype = None
    return built


def material_posteriors(lab: np.ndarray, colours: np.ndarray, still: Any, *planes: np.ndarray) -> np.ndarray:
    """See :func:`emotalking.ops.materials.material_posteriors`."""
    given = [np.ascontiguousarray(array) for array in (lab, colours, *still, *planes)]
    out = np.empty((*lab.shape[:2], colours.shape[1]), np.float32)
    library().material_posteriors(
        *(array.ctypes.data for array in given), HANGING, IMPOSSIBLE, ANYWHERE, out[..., 0].size, out.ctypes.data
    )
    return out
