"""The compiled operation behind `emotalking.ops.materials`."""

from typing import Any

import numpy as np

from emotalking.ops.cpu.build import kernels
from emotalking.ops.reference.materials import ANYWHERE, HANGING, IMPOSSIBLE

library = kernels("materials.cpp", material_posteriors="p" * 10 + "ffflp")


def material_posteriors(
    lab: np.ndarray,
    colours: np.ndarray,
    still: Any,
    person: np.ndarray,
    log_prior: np.ndarray,
    hanging: np.ndarray,
    oval: np.ndarray,
    below_brows: np.ndarray,
) -> np.ndarray:
    """See :func:`emotalking.ops.materials.material_posteriors`."""
    planes = person, log_prior, hanging, oval, below_brows
    given = [np.ascontiguousarray(array) for array in (lab, colours, *still, *planes)]
    out = np.empty((*lab.shape[:2], colours.shape[1]), np.float32)
    library().material_posteriors(
        *(array.ctypes.data for array in given), HANGING, IMPOSSIBLE, ANYWHERE, out[..., 0].size, out.ctypes.data
    )
    return out
