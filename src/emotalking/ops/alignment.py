"""Least-squares alignment of point sets."""

import numpy as np
from jaxtyping import Float


def fit_similarity(
    source: Float[np.ndarray, "K D"], target: Float[np.ndarray, "*batch K D"]
) -> tuple[Float[np.ndarray, "*batch"], Float[np.ndarray, "*batch D D"], Float[np.ndarray, "*batch D"]]:
    """Similarity with target ~ scale * rotation @ source + translation, by least squares (Umeyama 1991).

    Args:
        source: at least two different points in the plane, three in space.
        target: the same points elsewhere; leading dimensions are independent fits.

    Returns:
        Scale (0 or more), proper rotation and translation.
    """
    source_mean, target_mean = source.mean(0), target.mean(-2)
    a, b = source - source_mean, target - target_mean[..., None, :]
    u, s, vt = np.linalg.svd(np.einsum("...ki,kj->...ij", b, a))
    sign = np.ones(s.shape)
    sign[..., -1] = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    rotation = np.einsum("...ij,...j,...jk->...ik", u, sign, vt)
    scale = (s * sign).sum(-1) / (a**2).sum()
    translation = target_mean - scale[..., None] * np.einsum("...ij,j->...i", rotation, source_mean)
    return np.asarray(scale), rotation, translation


def similarity_matrix(source: Float[np.ndarray, "K 2"], target: Float[np.ndarray, "K 2"]) -> Float[np.ndarray, "2 3"]:
    """:func:`fit_similarity` in the plane as the matrix of ``cv2.warpAffine``."""
    scale, rotation, translation = fit_similarity(source, target)
    return np.column_stack([scale * rotation, translation])
