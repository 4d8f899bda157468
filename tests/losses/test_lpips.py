"""Patches for the perceptual loss, against the obvious loop."""

import pytest
import torch

from emotalking.losses.lpips import cut_patches, pad_to


@pytest.mark.parametrize(("side", "corner"), [(4, (0, 0)), (4, (3, 1)), (9, (0, 2)), (1, (0, 0))])
def test_patches_are_the_whole_squares_of_a_grid(side: int, corner: tuple[int, int]) -> None:
    pictures = torch.rand(2, 11, 14, 3, generator=torch.Generator().manual_seed(1))
    wanted = [
        picture[top : top + side, left : left + side]
        for picture in pictures
        for top in range(corner[0], 11 - side + 1, side)
        for left in range(corner[1], 14 - side + 1, side)
    ]
    assert torch.equal(cut_patches(pictures, side, torch.tensor(corner)), torch.stack(wanted))


def test_a_square_that_fits_nowhere_is_refused() -> None:
    with pytest.raises(ValueError, match="no square of 12"):
        cut_patches(torch.zeros(1, 11, 14, 3), 12, torch.zeros(2).long())


def test_small_pictures_grow_and_others_stay() -> None:
    small = torch.ones(1, 3, 9, 3)
    grown = pad_to(small, 5)
    assert grown.shape == (1, 5, 9, 3) and float(grown.sum()) == float(small.sum())
    assert pad_to(small, 3) is small
