"""Shrinking: kernel against OpenCV."""

import cv2
import numpy as np
import pytest

from emotalking.ops.shrink import SHRINK, shrink


@pytest.mark.parametrize(
    ("large", "small"),
    [
        ((420, 410), (192, 187)),
        ((301, 301), (300, 300)),
        ((300, 200), (150, 50)),
        ((40, 30), (40, 30)),
        ((33, 20), (1, 1)),
        ((7, 5), (3, 2)),
        ((64, 64), (64, 37)),
    ],
)
def test_kernel_equals_opencv(large: tuple[int, int], small: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*large, 3), np.uint8)
    found, expected = (shrink(image, small[::-1], backend=name) for name in ("cpu", "reference"))
    assert found.shape == (*small, 3)
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-4  # at a tie of rounding
    np.testing.assert_array_equal(shrink(image, small[::-1]), found)
    assert SHRINK.last_run == "cpu"


def test_parts_and_colours() -> None:
    whole = np.random.default_rng(1).integers(0, 256, (90, 80, 3), np.uint8)
    part = whole[7:71, 5:68]
    expected = cv2.resize(np.ascontiguousarray(part), (29, 31), interpolation=cv2.INTER_AREA)
    for view in (part, np.asfortranarray(part)):
        assert np.abs(shrink(view, (29, 31), backend="cpu").astype(int) - expected).max() <= 1
    plain = np.full((50, 50, 3), (0, 128, 255), np.uint8)
    np.testing.assert_array_equal(shrink(plain, (17, 23)), np.broadcast_to(plain[0, 0], (23, 17, 3)))


def test_enlarging_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 4 x 5, got 4 x 6"):
        shrink(np.zeros((5, 4, 3), np.uint8), (4, 6))
