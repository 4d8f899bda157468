"""Similarity fits against transforms that are known."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from emotalking.ops.geometry import fit_similarity, similarity_matrix

RNG = np.random.default_rng(0)


def test_the_transform_of_each_set_is_found() -> None:
    source, rotations = RNG.normal(size=(9, 3)), Rotation.random(5, random_state=1).as_matrix()
    scales, places = RNG.uniform(0.5, 3, 5), RNG.normal(size=(5, 3))
    target = scales[:, None, None] * source @ rotations.swapaxes(1, 2) + places[:, None]
    scale, rotation, translation = fit_similarity(source, target)
    np.testing.assert_allclose(scale, scales)
    np.testing.assert_allclose(rotation, rotations, atol=1e-12)
    np.testing.assert_allclose(translation, places, atol=1e-12)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_mirrored_set_is_not_mirrored_back(dimensions: int) -> None:
    source = RNG.normal(size=(9, dimensions))
    _, rotation, _ = fit_similarity(source, source * np.array([-1, *[1] * (dimensions - 1)]))
    assert np.linalg.det(rotation) == pytest.approx(1)


def test_the_plane_fit_is_the_least_squares_one() -> None:
    """In complex numbers, where the fit is linear: target = a * source + b."""
    source, target = RNG.normal(size=(7, 2)), RNG.normal(size=(7, 2))
    s, t = source @ [1, 1j], target @ [1, 1j]
    (a, b), *_ = np.linalg.lstsq(np.stack([s, np.ones(7)], 1), t, rcond=None)
    expected = [[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]]
    np.testing.assert_allclose(similarity_matrix(source, target), expected, atol=1e-12)
