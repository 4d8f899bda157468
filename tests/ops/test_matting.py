"""Coverage of border pixels, on mixtures whose truth is known."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from emotalking.ops.matting import coverage

SIZE = 192


def mixture(front: tuple[int, int, int], back: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A blurred disc over a plain background: the image, its coverage in [0, 1] and what is behind."""
    y, x = np.mgrid[:SIZE, :SIZE]
    alpha = gaussian_filter((np.hypot(x - 96, y - 90) < 50).astype(float), 0.7)
    behind = np.broadcast_to(np.uint8(back), (SIZE, SIZE, 3))
    image = alpha[..., None] * np.array(front) + (1 - alpha)[..., None] * behind
    return np.round(image).astype(np.uint8), alpha, np.ascontiguousarray(behind)


@pytest.mark.parametrize("off", [(0, 0), (1, -1)])
def test_colours_tell_the_coverage_where_the_region_is_off_by_a_pixel(off: tuple[int, int]) -> None:
    image, alpha, behind = mixture((190, 140, 120), (20, 60, 200))
    region = shift(alpha, off, order=0) > 0.5
    found = coverage(image, region, behind) / 255
    border = np.abs(alpha - 0.5) < 0.49
    soft, hard = np.abs(found - alpha)[border], np.abs(region - alpha)[border]
    assert soft.max() < 0.2 and soft.mean() < 0.05, (soft.max(), soft.mean())  # measured: 0.18 and 0.04, or less
    assert hard.max() > 0.3 and hard.mean() > 3 * soft.mean()


def test_the_outline_decides_where_both_sides_look_the_same() -> None:
    image, alpha, behind = mixture((100, 100, 100), (100, 100, 100))
    found = coverage(image, alpha > 0.5, behind) / 255
    assert np.abs(found - alpha).max() < 0.2  # measured: 0.1


def test_regions_without_a_border_stay_as_they_are() -> None:
    image, _, behind = mixture((190, 140, 120), (20, 60, 200))
    thin = np.zeros((SIZE, SIZE), bool)
    thin[50, 20:90] = True
    for region in (np.zeros((SIZE, SIZE), bool), np.ones((SIZE, SIZE), bool), thin):
        assert np.array_equal(coverage(image, region, behind), region * np.uint8(255))


def test_the_edge_of_the_frame_is_no_outline() -> None:
    image, alpha, behind = mixture((190, 140, 120), (20, 60, 200))
    region = alpha[90:] > 0.5
    found = coverage(np.ascontiguousarray(image[90:]), region, np.ascontiguousarray(behind[90:]))
    assert (found[0, 60:130] == 255).all()
