"""Structural similarity: values by hand, kernel against reference."""

import math

import pytest
import torch
import torch.nn.functional as F

from emotalking.ops.reference.ssim import window
from emotalking.ops.similarity import compare_in_boxes, ssim

both = pytest.mark.parametrize("backend", ["reference", "cpu"])


def test_window_is_a_gaussian_that_sums_to_one() -> None:
    weights = window(torch.float64)
    assert weights.shape == (11,)
    torch.testing.assert_close(weights.sum(), torch.tensor(1.0, dtype=torch.float64))
    torch.testing.assert_close(weights[5] / weights[4], torch.tensor(math.exp(0.5 / 2.25), dtype=torch.float64))


@both
def test_same_images_score_one(backend: str) -> None:
    image = torch.rand(19, 23, 3)
    torch.testing.assert_close(ssim(image, image, backend=backend), torch.tensor(1.0), rtol=0, atol=1e-5)


@both
def test_flat_images_by_hand(backend: str) -> None:
    """Away from the border a flat image has its value as mean and no variance: only the luminance term is left."""
    a, b = torch.full((30, 30, 1), 0.8), torch.full((30, 30, 1), 0.4)
    expected = (2 * 0.8 * 0.4 + 1e-4) / (0.8**2 + 0.4**2 + 1e-4)
    value = ssim(a, b, reduction="none", backend=backend)[15, 15, 0]
    torch.testing.assert_close(value, torch.tensor(expected), rtol=0, atol=2e-4)


@both
def test_against_the_definition_with_a_full_window(backend: str) -> None:
    a, b = torch.rand(17, 14, 2), torch.rand(17, 14, 2)
    kernel = torch.outer(window(), window())[None, None]

    def blur(x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x.movedim(-1, 0)[:, None], kernel, padding=5)[:, 0].movedim(0, -1)

    ma, mb = blur(a), blur(b)
    va, vb, cov = blur(a * a) - ma**2, blur(b * b) - mb**2, blur(a * b) - ma * mb
    expected = (2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))
    torch.testing.assert_close(ssim(a, b, reduction="none", backend=backend), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ssim(a, b, backend=backend), expected.mean(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(37, 53, 3), (2, 16, 16, 3), (2, 2, 5, 4, 1), (1, 1, 3), (12, 40, 7)])
def test_kernel_equals_reference(shape: tuple[int, ...]) -> None:
    rng = torch.Generator().manual_seed(0)
    a, b = torch.rand(shape, generator=rng), torch.rand(shape, generator=rng)
    grad = torch.randn(shape, generator=rng)
    results = []
    for backend, dtype in (("cpu", torch.float32), ("reference", torch.float64)):
        x, y = a.to(dtype, copy=True).requires_grad_(), b.to(dtype, copy=True).requires_grad_()
        similarity = ssim(x, y, reduction="none", backend=backend)
        similarity.backward(grad.to(dtype))
        results.append((similarity, x.grad, y.grad))
    for actual, expected in zip(*results, strict=True):
        assert (actual - expected).abs().max() < 2e-5 * expected.abs().max()


def test_boxes_equal_the_reference() -> None:
    """Of images that are equal in some rows, columns, and all of a box. One box is empty, one is cut off."""
    rng = torch.Generator().manual_seed(1)
    a, b = torch.rand(50, 61, 3, generator=rng), torch.rand(50, 61, 3, generator=rng)
    a[:14], a[:, 40:], a[30:33, 20:24] = b[:14], b[:, 40:], b[30:33, 20:24]
    boxes = torch.tensor([[0, 0, 50, 61], [20, 3, 41, 30], [-3, 50, 9, 70], [10, 30, 50, 61], [7, 7, 7, 20]])
    grad, results = torch.randn(5, 2, generator=rng), []
    for backend, dtype in (("cpu", torch.float32), ("reference", torch.float64)):
        image = a.to(dtype, copy=True).requires_grad_()
        means = compare_in_boxes(image, b.to(dtype), boxes.int(), backend=backend)
        means.backward(grad.to(dtype))
        results.append((means, image.grad))
    for actual, expected in zip(*results, strict=True):
        assert (actual - expected).abs().max() < 2e-5 * expected.abs().max()
    assert results[0][0][4].tolist() == [0.0, 1.0]


def test_gradient_only_where_asked() -> None:
    a, b = torch.rand(9, 9, 3, requires_grad=True), torch.rand(9, 9, 3)
    ssim(a, b).backward()
    assert a.grad is not None and a.grad.abs().max() > 0 and b.grad is None


def test_gradcheck_of_the_reference() -> None:
    a, b = (torch.rand(6, 5, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda x, y: ssim(x, y, reduction="none"), (a, b), fast_mode=True)


def test_wrong_arguments_are_named() -> None:
    a = torch.rand(4, 4, 3)
    with pytest.raises(Exception, match="b"):
        ssim(a, torch.rand(4, 5, 3))
    with pytest.raises(ValueError, match="b: expected"):
        ssim(a, a.double())
