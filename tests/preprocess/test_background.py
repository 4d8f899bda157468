"""The plate finds what it saw and fills what it did not."""

import numpy as np
import pytest

from emotalking.data.files import SubjectFiles
from emotalking.data.labels import Label, Masks
from emotalking.data.writer import write_masks, write_original
from emotalking.errors import InputError
from emotalking.preprocess.layers import PlateBuilder, background_plate, fill_hidden, make_background


def scene(height: int = 60, width: int = 80) -> np.ndarray:
    rows, cols = np.indices((height, width))
    return np.dstack([60 + rows, 80 + cols, 120 + rows // 2]).astype(np.uint8)


def frames(left: tuple[int, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    result = []
    for x in left:
        image, labels = scene().copy(), np.zeros((60, 80), np.uint8)
        image[20:, x : x + 20] = 255
        labels[20:, x : x + 20] = Label.TORSO
        result.append((image, labels))
    return result


def test_a_moving_person_uncovers_everything() -> None:
    np.testing.assert_array_equal(background_plate(frames((0, 30, 60))), scene())


def test_pixels_near_the_person_are_not_trusted() -> None:
    builder = PlateBuilder(60, 80)
    image, labels = frames((30,))[0]
    builder.add(image, labels != 0)
    assert not builder.known[40, 26:54].any()
    assert builder.known[40, 23]
    assert builder.known[40, 56]


def test_the_farthest_frame_wins() -> None:
    """A pixel's colour comes from the frame where the person is farthest away (their shadow is not)."""
    near, far = frames((10, 55))
    near[0][:, 38] = 0
    far[0][:, 5] = 0
    plate = background_plate([near, far, near])
    np.testing.assert_array_equal(plate[:, 38], scene()[:, 38])
    assert (plate[40:, 5] == 0).all()  # here the other frame is the far one


def test_hidden_pixels_are_filled_smoothly() -> None:
    known = np.ones((60, 80), bool)
    known[10:50, 25:55] = False
    damaged = scene().copy()
    damaged[~known] = 255
    filled = fill_hidden(damaged, known)
    np.testing.assert_array_equal(filled[known], scene()[known])
    # A ramp is continued within the range of its border.
    error = np.abs(filled[~known].astype(int) - scene()[~known])
    assert error.mean() < 8
    assert error.max() < 32


def test_nothing_to_see(tmp_path) -> None:
    image, labels = scene(), np.full((60, 80), Label.HEAD, np.uint8)
    with pytest.raises(InputError, match="No background"):
        background_plate([(image, labels)])
    with pytest.raises(InputError, match="no frame"):
        background_plate([])
    pairs = frames((0, 60))
    for index, (image, mask) in enumerate(pairs):
        write_original(tmp_path, index, image)
        write_masks(tmp_path, index, Masks(mask, np.zeros(mask.shape, bool)))
    make_background(SubjectFiles(tmp_path), len(pairs))
    assert (tmp_path / "bc.jpg").stat().st_size > 0
