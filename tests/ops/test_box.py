"""The rectangle type: order, index, and what its methods give."""

import dataclasses

import numpy as np
import pytest

from emotalking.ops.box import Box


def test_order_is_top_left_bottom_right() -> None:
    box = Box(1, 2, 5, 10)
    assert [*box] == [1, 2, 5, 10] and Box(*np.array([1, 2, 5, 10]).tolist()) == box
    assert (box.height, box.width, box.size, box.centre) == (4, 8, (8, 4), (6.0, 3.0))
    assert Box.whole(width=8, height=4) == Box(0, 0, 4, 8)
    with pytest.raises(dataclasses.FrozenInstanceError):
        box.top = 0  # pyright: ignore[reportAttributeAccessIssue]


def test_index_cuts_rows_and_columns() -> None:
    image = np.arange(60).reshape(6, 10)
    assert np.array_equal(image[Box(1, 2, 5, 9).index], image[1:5, 2:9])
    assert Box(1.0, 2.0, 5.0, 9.0).index == (slice(1, 5), slice(2, 9))


def test_around_is_the_bounding_box_of_points_x_y() -> None:
    assert Box.around(np.array([[3.5, 1.0], [2.0, 8.0], [3.0, 4.0]])) == Box(1.0, 2.0, 8.0, 3.5)


def test_clipped_grown_shifted_scaled() -> None:
    box = Box(2, 3, 6, 9)
    assert box.grown(4) == Box(-2, -1, 10, 13)
    assert box.grown(4).clipped(width=12, height=8) == Box(0, 0, 8, 12)
    assert box.shifted(x=5, y=-1) == Box(1, 8, 5, 14)
    assert box.scaled(2) == Box(4, 6, 12, 18)
    assert box.shifted(x=100, y=0).clipped(width=12, height=8).size == (0, 4)
