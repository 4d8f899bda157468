"""Interpolation over image pyramids."""

import cv2
import numpy as np
from jaxtyping import Float32


def pull_push(colour: Float32[np.ndarray, "H W 3"], weight: Float32[np.ndarray, "H W"]) -> Float32[np.ndarray, "H W 3"]:
    """Smooth interpolation: pixels of weight 0 take the coarser level's colour (Gortler et al. 1996).

    Args:
        weight: how much a pixel counts, in [0, 1].
    """
    weighted = colour * weight[..., None]
    if min(weight.shape) <= 2:
        return np.broadcast_to(weighted.sum((0, 1)) / max(float(weight.sum()), 1e-6), colour.shape)
    small_weight = cv2.pyrDown(weight)
    small = cv2.pyrDown(weighted) / np.maximum(small_weight, 1e-6)[..., None]
    coarse = pull_push(small, np.minimum(4 * small_weight, 1))
    coarse = cv2.pyrUp(np.ascontiguousarray(coarse, np.float32), dstsize=(weight.shape[1], weight.shape[0]))
    return weighted + (1 - weight)[..., None] * coarse
