"""Losses against plain formulas and cases that can be worked out by hand."""

import numpy as np
import pytest
import torch

from emotalking.stylegan import generator_losses as losses
from emotalking.stylegan.critics import FoundPoints, read_maps
from emotalking.stylegan.edit_training import EmotionWeights, LipWeights

from .faces import gaussians


def test_weights_are_the_papers() -> None:
    # S6, in the paper's order; EmoStyle's of docs/paper.md 12.1
    assert LipWeights() == LipWeights(landmark=1.0, pixel=5.0, size=0.03, emotion=0.2, identity=1.5)
    assert EmotionWeights().size == 0.03 and EmotionWeights().landmark == 0.001


def test_landmarks_are_read_between_pixels_and_carry_gradients() -> None:
    points = torch.tensor([[[10.5, 20.5], [31.2, 7.7], [1.0, 62.9]]], requires_grad=True)
    found = read_maps(gaussians(points))
    torch.testing.assert_close(found[:, :2], points[:, :2], atol=0.12, rtol=0)
    torch.testing.assert_close(found[:, 2], points[:, 2], atol=0.8, rtol=0)  # the map ends beside it
    (slope,) = torch.autograd.grad(found[0, 0, 0], points)
    assert slope[0, 0, 0] == pytest.approx(1.0, abs=0.25) and abs(float(slope[0, 0, 1])) < 1e-3


def test_lips_alone_are_compared() -> None:
    points = torch.rand(2, 68, 2) * 30 + 10
    moved = points.clone()
    moved[:, :48] += 3.0
    maps = torch.zeros(2, 68, 64, 64)
    source, made = FoundPoints(maps, points), FoundPoints(maps, moved)
    assert losses.lip_landmark_loss(source, made) == 0
    moved[:, 48:, 1] += 2.0
    assert losses.lip_landmark_loss(source, made) == pytest.approx(2.0)  # (0 + 4) / 2


def test_lip_rectangle_holds_the_lips_with_room() -> None:
    ibug68 = torch.zeros(1, 68, 2)
    ibug68[0, 48:, 0] = torch.linspace(-0.4, 0.4, 20)
    ibug68[0, 48:, 1] = torch.linspace(0.3, 0.5, 20)
    inside = losses.lip_rectangles(ibug68, 100)[0]
    rows, columns = np.flatnonzero(inside.any(1).numpy()), np.flatnonzero(inside.any(0).numpy())
    # room of .15 * .8 on every side: x from -.52 to .52, y from .18 to .62
    assert (columns[0], columns[-1], rows[0], rows[-1]) == (24, 75, 59, 80)
    source, made = torch.zeros(1, 100, 100, 3), torch.ones(1, 100, 100, 3)
    made[0][inside] = 0.25
    assert losses.inside_loss(source, made, inside[None]) == pytest.approx(0.25)
    assert losses.inside_loss(source, made, torch.zeros_like(inside)[None]) == 0


def test_outside_of_the_face_is_outside_of_chin_and_brows() -> None:
    ibug68 = torch.zeros(1, 68, 2)
    angle = torch.linspace(np.pi, 0, 17)
    ibug68[0, :17] = torch.stack([0.5 * angle.cos(), 0.5 * angle.sin()], 1)  # the lower half of a circle
    ibug68[0, 17:27] = torch.stack([torch.linspace(-0.5, 0.5, 10), torch.full((10,), -0.5)], 1)
    outside = losses.outside_face(ibug68, 40)[0]
    inside_share = float((~outside).float().mean())
    assert inside_share == pytest.approx((0.5 + 0.5 * np.pi * 0.25) / 4, abs=0.02)
    assert not outside[20, 20] and outside[2, 2] and outside[38, 20]
    faces = torch.rand(1, 40, 40, 3)
    changed = torch.where(outside[None, ..., None], faces, 1 - faces)
    assert losses.background_loss(faces, changed, outside[None]) == 0
    assert losses.background_loss(faces, faces + 0.5, outside[None]) == pytest.approx(0.5)


def test_unsure_landmarks_are_left_out() -> None:
    points = torch.rand(1, 68, 2) * 40 + 10
    source = FoundPoints(gaussians(points), points)
    moved = points + torch.tensor([1.0, 0.0])
    assert losses.still_landmark_loss(source, FoundPoints(gaussians(points), moved)) == pytest.approx(8.0)  # 4^2 / 2
    assert losses.still_landmark_loss(source, FoundPoints(0.3 * gaussians(points), moved)) == 0


def test_sizes_emotion_and_identity() -> None:
    d = torch.zeros(2, 3, 4)
    d[0, 0] = torch.tensor([3.0, 4.0, 0.0, 0.0])
    assert losses.modification_size(d) == pytest.approx(5 / 6)
    assert losses.emotion_loss(torch.tensor([[0.5, 0.0]]), torch.tensor([[0.0, 1.0]])) == pytest.approx(0.625)
    assert losses.identity_loss(torch.ones(1, 4), torch.zeros(1, 4)) == 1


def test_ms_ssim_is_one_for_equals_and_agrees_with_the_plain_form() -> None:
    torch.manual_seed(0)
    a = torch.rand(2, 40, 40, 3, dtype=torch.double)
    b = (a + 0.1 * torch.randn_like(a)).clamp(0, 1).requires_grad_()
    assert losses.ms_ssim(a, a) == pytest.approx(1.0)
    fast = losses.ms_ssim(a, b).detach()
    assert float(fast) == pytest.approx(plain_ms_ssim(a.numpy(), b.detach().numpy()), abs=1e-9)
    (slope,) = torch.autograd.grad(losses.reconstruction_loss(a, b), b)
    assert torch.isfinite(slope).all() and slope.abs().max() > 0


def plain_ms_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Window by window; two scales fit 40 pixels."""
    steps = np.arange(-5, 6)
    line = np.exp(-(steps**2) / (2 * 1.5**2))
    weights = np.outer(line, line) / line.sum() ** 2
    shares = np.array([0.0448, 0.2856]) / (0.0448 + 0.2856)
    out = []
    for x, y in zip(a, b, strict=True):
        for channel in range(3):
            p, q, value = x[..., channel], y[..., channel], 1.0
            for scale, share in enumerate(shares):
                found = []
                for i in range(p.shape[0] - 10):
                    for j in range(p.shape[1] - 10):
                        u, v = p[i : i + 11, j : j + 11], q[i : i + 11, j : j + 11]
                        mu, mv = (weights * u).sum(), (weights * v).sum()
                        vu, vv = (weights * (u - mu) ** 2).sum(), (weights * (v - mv) ** 2).sum()
                        both = (weights * (u - mu) * (v - mv)).sum()
                        contrast = (2 * both + 0.03**2) / (vu + vv + 0.03**2)
                        light = (2 * mu * mv + 0.01**2) / (mu**2 + mv**2 + 0.01**2)
                        found.append(contrast * (light if scale == 1 else 1.0))
                value *= np.mean(found) ** share
                p, q = (z.reshape(z.shape[0] // 2, 2, -1, 2).mean((1, 3)) for z in (p, q))
            out.append(value)
    return float(np.mean(out))
