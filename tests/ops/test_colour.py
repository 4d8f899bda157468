"""Spherical harmonics and composition."""

import math

import pytest
import torch

from emotalking.ops import sh
from emotalking.ops.composite import composite, dilate, mouth_coverage, over


def sphere(samples: int = 200_000) -> torch.Tensor:
    """Directions spread evenly (Fibonacci)."""
    i = torch.arange(samples, dtype=torch.float64) + 0.5
    z, turn = 1 - 2 * i / samples, math.pi * (1 + 5**0.5) * i
    r = (1 - z * z).sqrt()
    return torch.stack((r * turn.cos(), r * turn.sin(), z), dim=-1)


def test_basis_is_orthonormal() -> None:
    values = sh.basis(sphere(), 3)
    gram = values.T @ values * (4 * math.pi / len(values))
    torch.testing.assert_close(gram, torch.eye(16, dtype=torch.float64), rtol=0, atol=1e-4)


def test_degree_one_by_hand() -> None:
    """3DGS's order and sign: -y, z, -x."""
    coeffs = torch.zeros(1, 4, 3)
    coeffs[0, :, 0] = torch.tensor([0.1, 1.0, 2.0, 3.0])
    direction = torch.tensor([[0.0, 3.0, 4.0]])
    expected = 0.5 + sh.C0 * 0.1 + 0.4886025119029199 * (-0.6 * 1 + 0.8 * 2)
    torch.testing.assert_close(sh.evaluate_sh(coeffs, direction, 1)[0, 0], torch.tensor(expected))


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_constant_colour_and_lower_degree_ignores_the_rest(degree: int) -> None:
    rgb = torch.rand(2, 7, 3)
    coeffs = torch.zeros(2, 7, 16, 3)
    coeffs[..., 0, :] = sh.rgb_to_sh0(rgb)
    coeffs[..., sh.num_bases(degree) :, :] = 9.0
    directions = torch.randn(2, 7, 3)
    torch.testing.assert_close(sh.evaluate_sh(coeffs, directions, degree), rgb)


def test_gradcheck_of_sh() -> None:
    coeffs = torch.randn(3, 16, 3, dtype=torch.float64, requires_grad=True)
    directions = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda c, d: sh.evaluate_sh(c, d, 3), (coeffs, directions))


def test_sh_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="coeffs"):
        sh.evaluate_sh(torch.zeros(1, 4, 3), torch.ones(1, 3), 2)
    with pytest.raises(ValueError, match="sh_rest"):
        sh.view_colours(torch.zeros(2, 1, 3), torch.zeros(2, 3, 3), torch.zeros(1, 2, 3), torch.zeros(1, 3), 2)
    with pytest.raises(ValueError, match="degree"):
        sh.view_colours(torch.zeros(2, 1, 3), torch.zeros(2, 24, 3), torch.zeros(1, 2, 3), torch.zeros(1, 3), 4)
    with pytest.raises(ValueError, match="degree"):
        sh.evaluate_sh(torch.zeros(1, 25, 3), torch.ones(1, 3), 4)


def pixel(*rgb: float) -> torch.Tensor:
    return torch.tensor(rgb).reshape(1, 1, 3)


def test_composition_by_hand() -> None:
    face, mouth, background = pixel(0.3, 0, 0), pixel(0, 0.25, 0), pixel(0.2, 0.4, 1.0)
    face_alpha, mouth_alpha = torch.tensor([[0.6]]), torch.tensor([[0.5]])
    frame, alpha = composite(face, face_alpha, mouth, mouth_alpha, background)
    torch.testing.assert_close(alpha, torch.tensor([[0.8]]))
    under = pixel(0.1, 0.45, 0.5)
    torch.testing.assert_close(frame, pixel(0.3, 0, 0) + 0.4 * under)
    torch.testing.assert_close(over(face, face_alpha, under), frame)


def test_the_seam_has_the_mouths_colour_squared() -> None:
    """Two frames, each with its own mouth; what is seen between mouth and lips is neither black nor background."""
    mouth_alpha = torch.zeros(2, 512, 60)
    mouth_alpha[:, 30:50, 20:40] = 1.0
    colours = torch.tensor([[0.8, 0.4, 0.4], [0.2, 0.2, 0.2]])
    mouth = (mouth_alpha[..., None] * colours[:, None, None]).requires_grad_()
    nothing, white = torch.zeros(2, 512, 60, 3), torch.ones(2, 512, 60, 3)
    frame, _ = composite(nothing, torch.zeros(2, 512, 60), mouth, mouth_alpha, white)
    torch.testing.assert_close(frame[:, 40, 30], colours)
    torch.testing.assert_close(frame[:, 55, 30], colours.square())
    torch.testing.assert_close(frame[:, 90, 30], white[:, 0, 0])
    (gradient,) = torch.autograd.grad(frame[:, 55, 30].sum(), mouth)
    assert gradient[:, 55, 30].eq(1).all() and gradient.sum() == 6


def test_opaque_face_hides_all_and_nothing_shows_background() -> None:
    one, zero, rgb = torch.ones(2, 4, 5), torch.zeros(2, 4, 5), torch.rand(3, 2, 4, 5, 3)
    assert torch.equal(composite(rgb[0], one, rgb[1], zero, rgb[2])[0], rgb[0])
    assert torch.equal(composite(0 * rgb[0], zero, 0 * rgb[1], zero, rgb[2])[0], rgb[2])


def test_no_background_shines_through_the_seam_at_the_lips() -> None:
    alpha = torch.zeros(1, 512, 60)
    alpha[0, 20, 30] = 0.7
    wide = mouth_coverage(alpha)
    assert (wide[0, 3:38, 13:48] == 0.7).all() and wide.sum() == pytest.approx(0.7 * 35 * 35, rel=1e-5)
    black, white = torch.zeros(1, 512, 60, 3), torch.ones(1, 512, 60, 3)
    frame, covered = composite(black, torch.zeros_like(alpha), black, alpha, white)
    torch.testing.assert_close(frame[..., 0], 1 - wide)
    torch.testing.assert_close(covered, wide)
    with pytest.raises(ValueError, match="size"):
        dilate(alpha, 4)


@pytest.mark.parametrize("size", [1, 3, 13, 25])
def test_dilation_is_the_maximum_over_the_window(size: int) -> None:
    alpha = torch.rand(2, 3, 30, 21, generator=torch.Generator().manual_seed(0))
    pooled = torch.nn.functional.max_pool2d(alpha, size, stride=1, padding=size // 2)
    assert torch.equal(dilate(alpha, size), pooled)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize(("frames", "count"), [(1, 1), (3, 37)])
def test_kernel_equals_reference(degree: int, frames: int, count: int) -> None:
    """Values and gradients, some colours below zero; coefficients beyond the degree are there and do not count."""
    rng = torch.Generator().manual_seed(count)
    parts = [torch.randn(count, 1, 3, generator=rng), torch.randn(count, 15, 3, generator=rng)]
    means, centres = torch.randn(frames, count, 3, generator=rng), torch.randn(frames, 3, generator=rng) * 3
    grad = torch.randn(frames, count, 3, generator=rng)
    results = []
    for backend, dtype in (("cpu", torch.float32), ("reference", torch.float64)):
        first, rest = (part.to(dtype, copy=True).requires_grad_() for part in parts)
        colours = sh.view_colours(first, rest, means.to(dtype), centres.to(dtype), degree, backend=backend)
        colours.backward(grad.to(dtype))
        results.append((colours, first.grad, rest.grad))
    assert (results[0][0] == 0).any() or count == 1
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-5)
