"""Losses with known answers, and harmless on empty regions."""

import math

import pytest
import torch

from emotalking.losses.growth import growth
from emotalking.losses.l1_dssim import d_ssim, l1
from emotalking.losses.motion import offset_magnitude
from emotalking.losses.normal import normal_l1
from emotalking.losses.normal_residual import normal_residual
from emotalking.losses.normal_tv import normal_tv
from emotalking.losses.silhouette import silhouette


def test_l1_and_d_ssim_of_equal_and_different_images() -> None:
    image = torch.rand(1, 20, 20, 3, generator=torch.Generator().manual_seed(0))
    assert float(l1(image, image)) == 0.0
    assert float(d_ssim(image, image)) == pytest.approx(0.0, abs=1e-6)
    assert float(l1(torch.zeros(2, 2, 3), torch.full((2, 2, 3), 0.25))) == pytest.approx(0.25)
    assert float(d_ssim(image, 1.0 - image)) > 0.5


def test_silhouette_by_hand() -> None:
    alpha = torch.tensor([[[1.0, 0.5], [0.25, 0.0]]])
    region = torch.tensor([[[True, True], [False, False]]])
    assert float(silhouette(alpha, region)) == pytest.approx((0.5 + 0.25) / 4)


def test_silhouette_of_a_soft_region_is_least_at_its_coverage() -> None:
    region = torch.tensor([[[0.25, 1.0]]])
    assert float(silhouette(torch.tensor([[[0.25, 1.0]]]), region)) == 0
    assert float(silhouette(torch.tensor([[[0.75, 0.5]]]), region)) == pytest.approx(0.5)


def test_growth_counts_the_largest_scale_and_no_shrinking() -> None:
    before = torch.tensor([[[1.0, 2.0, 1.0], [1.0, 1.0, 4.0], [3.0, 1.0, 1.0]]])
    after = torch.tensor([[[1.9, 2.0, 1.0], [1.0, 1.0, 4 * math.e], [1.0, 0.5, 0.1]]])
    assert float(growth(after, before)) == pytest.approx(1 / 3, rel=1e-5)


@pytest.mark.parametrize("value", [True, False])
def test_silhouette_of_full_and_empty_regions(value: bool) -> None:
    alpha = torch.full((1, 3, 3), 0.5, requires_grad=True)
    loss = silhouette(alpha, torch.full((1, 3, 3), value))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.5)
    assert alpha.grad is not None and bool(torch.isfinite(alpha.grad).all())


def test_offset_magnitude_sums_the_kinds() -> None:
    offsets = {"d_means": torch.tensor([[[1.0, -3.0]]]), "d_quats": torch.tensor([[[0.5, 0.5]]])}
    assert float(offset_magnitude(offsets)) == pytest.approx(2.5)
    with pytest.raises(ValueError, match="empty"):
        offset_magnitude({})


def test_normal_terms_by_hand_and_on_nothing() -> None:
    target = torch.zeros(1, 2, 3, 3)
    target[0, 0, :2] = torch.tensor([0.0, 0.0, -1.0])
    rendered = torch.zeros(1, 2, 3, 3, requires_grad=True)
    assert float(normal_l1(rendered, target).detach()) == pytest.approx(2 / 18)
    region = target.abs().amax(-1) > 0
    stepped = torch.zeros(1, 2, 3, 3)
    stepped[0, 0, 0, 0], stepped[0, 1, 2, 1] = 0.5, 9.0  # the second lies outside the region
    assert float(normal_tv(stepped, region)) == pytest.approx(0.5 / 18)
    assert float(normal_residual(torch.tensor([[1.0, -2.0, 0.0]]))) == pytest.approx(1.0)
    nothing = torch.zeros(1, 2, 3, dtype=torch.bool)
    (normal_l1(rendered, 0 * target) + normal_tv(rendered, nothing)).backward()
    assert rendered.grad is not None and float(rendered.grad.abs().sum()) == 0.0
