"""Posteriors of materials: kernel against numpy."""

import numpy as np

from emotalking.ops.materials import MATERIAL_POSTERIORS, StillBackground, material_posteriors


def test_kernel_equals_numpy() -> None:
    rng = np.random.default_rng(0)
    size = (37, 29)
    lab = rng.integers(0, 256, (*size, 3), np.uint8)
    plate = (lab + rng.normal(0, 8, lab.shape)).astype(np.float32)
    plate[:9] = np.nan  # never seen
    still = StillBackground(
        plate, rng.uniform(9, 100, size).astype(np.float32), rng.normal(0, 1, size).astype(np.float32)
    )
    person = rng.choice(np.array([0.0001, 0.04, 0.5, 0.96, 0.9999], np.float32), size)
    colours = np.log(rng.random((32**3, 4)) + 1e-6).astype(np.float32)
    prior = np.log(rng.random((*size, 3)) + 1e-3).astype(np.float32)
    hanging = rng.random(size).astype(np.float32)
    arguments = lab, colours, still, person, prior, hanging, rng.random(size) < 0.3, rng.random(size) < 0.3
    found, expected = (material_posteriors(*arguments, backend=name) for name in ("cpu", "reference"))
    np.testing.assert_allclose(found, expected, atol=2e-6)  # 4e-7
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)
    assert np.array_equal(material_posteriors(*arguments), found)
    assert MATERIAL_POSTERIORS.last_run == "cpu"
