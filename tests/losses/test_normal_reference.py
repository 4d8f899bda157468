"""Normals and their losses against slow loops of the equations: values and gradients (paper 3.2, eqs. 11-17)."""

import numpy as np
import torch

from emotalking.losses.attention import attention_inside
from emotalking.losses.normal import normal_cosine, normal_l1
from emotalking.losses.normal_residual import normal_residual
from emotalking.losses.normal_tv import normal_tv
from emotalking.ops.normals import gaussian_normals

HEIGHT, WIDTH = 4, 5


def slow_l1(rendered: np.ndarray, target: np.ndarray) -> float:
    total = 0.0
    for y, x in np.ndindex(HEIGHT, WIDTH):
        if target[y, x].any():
            total += sum(abs(rendered[y, x, c] - target[y, x, c]) for c in range(3))
    return total / (3 * HEIGHT * WIDTH)


def slow_cosine(rendered: np.ndarray, target: np.ndarray) -> float:
    pixels = [(y, x) for y, x in np.ndindex(HEIGHT, WIDTH) if target[y, x].any()]
    return sum(1.0 - float(rendered[pixel] @ target[pixel]) for pixel in pixels) / (HEIGHT * WIDTH)


def slow_variation(rendered: np.ndarray, target: np.ndarray) -> float:
    total, known = 0.0, target.any(-1)
    for y, x in np.ndindex(HEIGHT, WIDTH):
        for ny, nx in ((y, x + 1), (y + 1, x)):
            if ny < HEIGHT and nx < WIDTH and known[y, x] and known[ny, nx]:
                total += float(np.abs(rendered[ny, nx] - rendered[y, x]).sum())
    return total / (3 * HEIGHT * WIDTH)


def slow_normals(parameters: np.ndarray, scales: np.ndarray, means: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """normalise(+-shortest axis + residual), one by one; ``parameters`` are quaternions and residuals."""
    normals = []
    for row, scale, mean in zip(parameters, scales, means, strict=True):
        w, x, y, z = row[:4] / np.linalg.norm(row[:4])
        turn = np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
            ]
        )
        axis = turn[:, int(np.argmin(scale))]
        axis = axis if axis @ (centre - mean) >= 0 else -axis
        normal = axis + row[4:]
        normals.append(normal / np.linalg.norm(normal))
    return np.stack(normals)


def slope(function, at: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """Central differences of a scalar function."""
    found = np.zeros_like(at)
    for index in np.ndindex(*at.shape):
        up, down = at.copy(), at.copy()
        up[index] += step
        down[index] -= step
        found[index] = (function(up) - function(down)) / (2 * step)
    return found


def maps() -> tuple[np.ndarray, np.ndarray]:
    """A rendered map and a target with unknown pixels, unit vectors."""
    draw = np.random.default_rng(3)
    rendered, target = (draw.normal(size=(HEIGHT, WIDTH, 3)) for _ in range(2))
    target /= np.linalg.norm(target, axis=-1, keepdims=True)
    target[draw.random((HEIGHT, WIDTH)) < 0.3] = 0.0
    return rendered / np.linalg.norm(rendered, axis=-1, keepdims=True), target


def test_map_losses_and_their_gradients() -> None:
    rendered, target = maps()
    wanted = torch.from_numpy(target)[None]
    known = wanted.abs().amax(-1) > 0
    for ours, slow in (
        (lambda image: normal_l1(image, wanted), slow_l1),
        (lambda image: normal_cosine(image, wanted), slow_cosine),
        (lambda image: normal_tv(image, known), slow_variation),
    ):
        image = torch.from_numpy(rendered)[None].requires_grad_()
        value = ours(image)
        value.backward()
        np.testing.assert_allclose(float(value.detach()), slow(rendered, target), rtol=1e-12)
        assert image.grad is not None
        np.testing.assert_allclose(image.grad[0].numpy(), slope(lambda r, s=slow: s(r, target), rendered), atol=1e-8)


def test_normals_and_their_gradients_to_rotations_and_residuals() -> None:
    draw = np.random.default_rng(5)
    parameters = np.concatenate([draw.normal(size=(9, 4)), 0.3 * draw.normal(size=(9, 3))], 1)
    scales, means, centre = draw.uniform(0.01, 0.1, (9, 3)), draw.normal(size=(9, 3)), np.array([0.1, -0.2, 7.0])
    pull = draw.normal(size=(9, 3))
    given = torch.from_numpy(parameters).requires_grad_()
    normals = gaussian_normals(
        given[:, :4], torch.from_numpy(scales), torch.from_numpy(means), torch.from_numpy(centre), given[:, 4:]
    )
    np.testing.assert_allclose(normals.detach().numpy(), slow_normals(parameters, scales, means, centre), atol=1e-12)
    (normals * torch.from_numpy(pull)).sum().backward()
    assert given.grad is not None
    wanted = slope(lambda p: float((slow_normals(p, scales, means, centre) * pull).sum()), parameters)
    np.testing.assert_allclose(given.grad.numpy(), wanted, atol=1e-7)


def test_residuals_are_pulled_to_zero() -> None:
    residuals = torch.tensor([[0.5, -1.0, 0.0], [0.25, 0.25, -0.25]], requires_grad=True)
    value = normal_residual(residuals)
    value.backward()
    assert float(value.detach()) == 2.25 / 6
    assert residuals.grad is not None and torch.allclose(residuals.grad, residuals.detach().sign() / 6)


def test_attention_is_a_mean_over_its_region_and_nothing_on_none() -> None:
    attention = torch.arange(24.0).reshape(1, 3, 4, 2).requires_grad_()
    region = torch.zeros(1, 3, 4, dtype=torch.bool)
    assert float(attention_inside(attention, region).detach()) == 0.0
    region[0, 1, 2:] = True
    value = attention_inside(attention, region)
    value.backward()
    assert float(value.detach()) == (12 + 13 + 14 + 15) / 2
    assert attention.grad is not None and float(attention.grad.sum()) == 2.0 and not attention.grad[~region].any()
