"""PNG files: kernel against OpenCV and Pillow."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from emotalking.io.images import decode_image
from emotalking.ops.png import ENCODE_PNG, encode_png


def drawing(shape: tuple[int, ...]) -> np.ndarray:
    """Empty rows, a smooth slope, noise and a pattern that repeats."""
    rng = np.random.default_rng(0)
    image = np.zeros(shape, np.uint8)
    rows, columns = np.indices(shape[:2])
    third = max(shape[0] // 3, 1)
    smooth = (rows + columns // 2)[..., None] if len(shape) == 3 else rows + columns // 2
    image[third : 2 * third] = np.broadcast_to(smooth, shape)[third : 2 * third]
    image[2 * third :, ::3] = rng.integers(0, 256, image[2 * third :, ::3].shape, np.uint8)
    return image


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (31, 33), (300, 200)])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("kind", ["empty", "noise", "drawing", "one colour"])
def test_kernel_keeps_every_pixel(size: tuple[int, int], channels: int, kind: str) -> None:
    shape = (*size, channels)
    image = {
        "empty": np.zeros(shape, np.uint8),
        "noise": np.random.default_rng(1).integers(0, 256, shape, np.uint8),
        "drawing": drawing(shape),
        "one colour": np.full(shape, 200, np.uint8),
    }[kind]
    data, reference = encode_png(image, backend="cpu"), encode_png(image, backend="reference")
    for each in (data, reference):
        np.testing.assert_array_equal(decode_image(each, unchanged=True), image)
    with Image.open(io.BytesIO(data)) as opened:  # another program's decompression, with all check sums
        np.testing.assert_array_equal(np.array(opened), image)
    assert len(data) < 1.2 * len(reference) + 300
    assert encode_png(image) == data
    assert ENCODE_PNG.last_run == "cpu"


def test_kernel_takes_palettes_and_views() -> None:
    palette = np.random.default_rng(2).integers(0, 256, (6, 3), np.uint8)
    labels = np.asarray(cv2.resize(np.arange(6, dtype=np.uint8).reshape(2, 3), (90, 70), interpolation=0))
    for indices in (labels, labels[::2, ::-3], labels.T):
        data = encode_png(indices, palette, backend="cpu")
        with Image.open(io.BytesIO(data)) as opened:
            assert opened.mode == "P"
            np.testing.assert_array_equal(np.array(opened), indices)
            np.testing.assert_array_equal(np.array(opened.convert("RGB")), palette[indices])
        reference = encode_png(np.ascontiguousarray(indices), palette, backend="reference")
        assert len(data) < 1.2 * len(reference) + 300


def test_rare_values_get_codes_of_fifteen_bits_at_most() -> None:
    """Counts like Fibonacci's numbers make the deepest of Huffman's trees."""
    counts = [1, 1]
    while len(counts) < 24:
        counts.append(counts[-1] + counts[-2])
    values = np.repeat(np.arange(24, dtype=np.uint8) * 7 + 3, counts)
    np.random.default_rng(3).shuffle(values)
    image = np.zeros((2, len(values) // 3, 3), np.uint8)
    image[0] = values[: image[0].size].reshape(image[0].shape)
    np.testing.assert_array_equal(decode_image(encode_png(image, backend="cpu")), image)
