"""Guided upsampling: kernel against OpenCV's operations."""

import numpy as np
import pytest

from emotalking.ops.guided import GUIDED_RANKS, guided_ranks
from emotalking.ops.reference.guided import guided_scores


@pytest.mark.parametrize(
    ("small", "large"),
    [((40, 33), (80, 66)), ((33, 40), (70, 85)), ((24, 20), (24, 20)), ((3, 2), (7, 9)), ((1, 1), (1, 1))],
)
@pytest.mark.parametrize("classes", [2, 4])
def test_kernel_equals_the_operations(small: tuple[int, int], large: tuple[int, int], classes: int) -> None:
    rng = np.random.default_rng(0)
    scores = rng.random((*small, classes), np.float32)
    scores /= scores.sum(-1, keepdims=True)
    image = rng.integers(0, 256, (*large, 3), np.uint8)
    image[: large[0] // 2] //= 64  # nearly one colour: the covariance is close to its regulariser
    found, expected = (guided_ranks(scores, image, backend=name) for name in ("cpu", "reference"))
    planes = guided_scores(scores, image)
    np.testing.assert_allclose(planes.sum(0), 1, atol=1e-5)
    for bit, plane in enumerate(planes[1:]):
        lead = plane - planes[: bit + 1].max(0)
        assert np.array_equal(expected >> bit & 1, lead > 0)
        # The kernel's scores differ by 2e-5 in these, by 7e-5 in frames of real clips.
        np.testing.assert_array_equal((found >> bit & 1)[np.abs(lead) > 4e-4], (lead > 0)[np.abs(lead) > 4e-4])
    assert (found < 1 << (classes - 1)).all()
    assert np.array_equal(guided_ranks(scores, image), found)
    assert GUIDED_RANKS.last_run == "cpu"
