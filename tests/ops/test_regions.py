"""Connected parts: kernels against OpenCV's components."""

import cv2
import numpy as np
import pytest

from emotalking.ops.regions import ABSORB_ISLANDS, CONNECTED_TO, absorb_islands, connected_to, fill_holes


def blobs(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Smooth noise with values 0 to 1, each as frequent."""
    noise = cv2.GaussianBlur(rng.random(shape, np.float32), (0, 0), float(rng.uniform(0.3, 3)))
    return noise.reshape(shape).ravel().argsort().argsort().reshape(shape) / noise.size


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (33, 1), (23, 50), (64, 41)])
def test_kernels_equal_the_components(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(sum(shape))
    for trial in range(20):
        mask, marker = blobs(rng, shape) > rng.uniform(0.1, 0.9), rng.random(shape) < 0.05
        smallest = int(rng.integers(1, 30))
        one, other = (connected_to(mask, marker, backend=backend) for backend in ("cpu", "reference"))
        np.testing.assert_array_equal(one, other)
        one, other = (fill_holes(mask, smallest, backend=backend) for backend in ("cpu", "reference"))
        np.testing.assert_array_equal(one, other)
        most = [connected_to(mask, marker, most=True, backend=backend) for backend in ("cpu", "reference")]
        assert (most[0] & marker).sum() == (most[1] & marker).sum()  # of several that hold as much, either
        assert not (most[0] & ~connected_to(mask, marker)).any()
        labels = (6 * blobs(rng, shape)).astype(np.uint8)
        root = None if trial % 2 else rng.random(shape) < 0.02
        found = [labels.copy(), labels.copy()]
        for label, others in ((1, (2, 4)), (2, (1, 4, 5)), (4, (5, 1)), (5, (4, 2, 1))):
            for backend, result in zip(("cpu", "reference"), found, strict=True):
                absorb_islands(result, label, others, smallest, root, backend=backend)
        np.testing.assert_array_equal(found[0], found[1])
    assert (CONNECTED_TO.last_run, ABSORB_ISLANDS.last_run) == ("cpu", "reference")


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_parts_by_hand(backend: str) -> None:
    mask = np.array([[1, 1, 0, 1], [0, 0, 1, 0], [1, 0, 1, 1]], bool)
    marker = np.array([[1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 1, 1]], bool)
    found = connected_to(mask, marker, backend=backend)
    assert found.astype(int).tolist() == [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]  # not along diagonals
    found = connected_to(mask, marker, most=True, backend=backend)
    assert found.astype(int).tolist() == [[0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]
    assert not connected_to(mask, np.zeros_like(mask), most=True, backend=backend).any()
    filled = fill_holes(mask, 2, backend=backend)
    assert filled.astype(int).tolist() == [[1, 1, 1, 1], [0, 0, 1, 1], [1, 0, 1, 1]]
    labels = np.array([[1, 1, 2, 2], [1, 3, 2, 2], [1, 1, 2, 3]], np.uint8)
    view = labels[:, 1:]
    absorb_islands(view, 3, (2, 1), 2, backend=backend)
    assert labels.tolist() == [[1, 1, 2, 2], [1, 2, 2, 2], [1, 1, 2, 2]]
    absorb_islands(labels, 1, (5,), 100, backend=backend)  # borders nothing of the kind
    assert (labels[:, 0] == 1).all()
