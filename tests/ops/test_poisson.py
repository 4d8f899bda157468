"""Seamless cloning: Laplace by hand, OpenCV's result, gradients."""

import cv2
import numpy as np
import pytest
import torch

from emotalking.ops.composite import RIM, seamless_clone, solve_poisson


def pictures(seed: int, height: int = 96, width: int = 128) -> np.ndarray:
    """A wavy picture with noise, uint8."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [128 + 45 * np.sin(x / draw.uniform(9, 25) + y / draw.uniform(9, 25) + k) for k in range(3)]
    return np.clip(np.stack(waves, 2) + draw.normal(0, 4, (height, width, 3)), 0, 255).astype(np.uint8)


def test_the_equation_is_solved() -> None:
    torch.manual_seed(0)
    load = torch.randn(2, 3, 7, 5, dtype=torch.double)
    surface = torch.nn.functional.pad(solve_poisson(load), (1, 1, 1, 1))
    middle, (up, down) = surface[..., 1:-1, 1:-1], (surface[..., :-2, 1:-1], surface[..., 2:, 1:-1])
    torch.testing.assert_close(4 * middle - up - down - surface[..., 1:-1, :-2] - surface[..., 1:-1, 2:], load)


def test_the_edge_stays_and_a_change_of_light_is_forgotten() -> None:
    torch.manual_seed(0)
    target = torch.rand(4, 20, 30, dtype=torch.double)
    result = seamless_clone(target, torch.rand(4, 20, 30, dtype=torch.double))
    ring = torch.ones(20, 30, dtype=torch.bool)
    ring[1:-1, 1:-1] = False
    torch.testing.assert_close(result[:, ring], target[:, ring])
    torch.testing.assert_close(seamless_clone(target, target + 0.3), target)
    torch.testing.assert_close(seamless_clone(target, target.clone()), target)


@pytest.mark.parametrize("box", [(20, 70, 30, 100), (1, 42, 1, 60), (50, 95, 65, 127), (10, 27, 7, 121)])
def test_it_is_opencvs(box: tuple[int, int, int, int]) -> None:
    target, source = pictures(1), pictures(2)
    top, bottom, left, right = box
    mask = np.zeros(target.shape[:2], np.uint8)
    mask[top:bottom, left:right] = 255
    middle = (left + (right - left) // 2, top + (bottom - top) // 2)
    theirs = cv2.seamlessClone(source, target, mask, middle, cv2.NORMAL_CLONE).astype(np.float64)
    parts = [torch.from_numpy(p[top:bottom, left:right].copy()).float().permute(2, 0, 1) for p in (target, source)]
    ours = target.astype(np.float64)
    ours[top:bottom, left:right] = seamless_clone(*parts).permute(1, 2, 0).numpy()
    off = np.abs(ours.clip(0, 255) - theirs)
    # They cut off the decimals: half a grey level in the mean, one at most.
    assert off.max() < 1.01 and off[top:bottom, left:right].mean() < 0.55
    assert np.abs(theirs - target)[top:bottom, left:right].mean() > 4


def test_gradients() -> None:
    torch.manual_seed(0)
    parts = [torch.rand(2, 9, 8, dtype=torch.double, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(seamless_clone, parts)


def test_too_small_a_rectangle_is_refused() -> None:
    with pytest.raises(ValueError, match=f"more than {2 * RIM} pixels"):
        seamless_clone(torch.rand(3, 2 * RIM, 30), torch.rand(3, 2 * RIM, 30))
