"""Losses with known answers, and harmless on empty regions."""

import pytest
import torch

from emotalking.losses.image import d_ssim, l1, silhouette
from emotalking.losses.motion import motion_size


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


@pytest.mark.parametrize("value", [True, False])
def test_silhouette_of_full_and_empty_regions(value: bool) -> None:
    alpha = torch.full((1, 3, 3), 0.5, requires_grad=True)
    loss = silhouette(alpha, torch.full((1, 3, 3), value))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.5)
    assert alpha.grad is not None and bool(torch.isfinite(alpha.grad).all())


def test_motion_size_sums_the_kinds() -> None:
    offsets = {"d_means": torch.tensor([[[1.0, -3.0]]]), "d_quats": torch.tensor([[[0.5, 0.5]]])}
    assert float(motion_size(offsets)) == pytest.approx(2.5)
    with pytest.raises(ValueError, match="empty"):
        motion_size({})
