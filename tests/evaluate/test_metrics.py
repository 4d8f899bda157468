"""Metrics with known answers."""

import math

import pytest
import torch

from emotalking.evaluate.metrics.image import psnr, ssim


def test_psnr_by_hand() -> None:
    image = torch.full((2, 4, 4, 3), 0.5)
    truth = image.clone()
    truth[1] += 0.1
    values = psnr(image, truth)
    assert math.isinf(float(values[0]))
    assert float(values[1]) == pytest.approx(20.0, abs=1e-4)


def test_ssim_is_one_only_for_equal_images() -> None:
    image = torch.rand(24, 24, 3, generator=torch.Generator().manual_seed(0))
    assert float(ssim(image, image)) == pytest.approx(1.0, abs=1e-5)
    assert float(ssim(image, image.flip(0))) < 0.5
