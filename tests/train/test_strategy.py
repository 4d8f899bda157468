"""Growth and pruning keep the optimizer's moments with their Gaussians."""

import pytest
import torch

from emotalking.models.gaussians import PARAMETERS, Gaussians, raw_scales_of
from emotalking.ops.sh import rgb_to_sh0
from emotalking.train.config import DensifyConfig, OptimConfig
from emotalking.train.densify import DensifyState, densify_and_prune, green_gaussians, prune, resize, sample_statistics
from emotalking.train.optim import gaussian_optimizer


def make(count: int = 6) -> tuple[Gaussians, torch.optim.Adam]:
    generator = torch.Generator().manual_seed(1)
    gaussians = Gaussians(torch.rand(count, 3, generator=generator) * 0.1, torch.full((count, 3), 0.5), 1)
    optimizer = gaussian_optimizer(gaussians, OptimConfig(), 0.1)
    loss = sum(
        (
            getattr(gaussians, name) * torch.arange(1.0, count + 1).view(-1, *[1] * (getattr(gaussians, name).ndim - 1))
        ).sum()
        for name in PARAMETERS
    )
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return gaussians, optimizer


def moment(gaussians: Gaussians, optimizer: torch.optim.Adam, name: str) -> torch.Tensor:
    return optimizer.state[getattr(gaussians, name)]["exp_avg"]


def test_resize_moves_rows_and_clears_the_new_borns() -> None:
    gaussians, optimizer = make()
    means, before = gaussians.means.detach().clone(), moment(gaussians, optimizer, "means").clone()
    resize(gaussians, optimizer, torch.tensor([4, 1, 1]), torch.tensor([2]))
    assert torch.equal(gaussians.means, means[[4, 1, 1]])
    after = moment(gaussians, optimizer, "means")
    assert torch.equal(after[:2], before[[4, 1]])
    assert float(after[2].abs().sum()) == 0.0
    assert all(getattr(gaussians, name).shape[0] == 3 for name in PARAMETERS)
    for group in optimizer.param_groups:
        assert group["params"][0] is getattr(gaussians, group["name"])


def test_training_goes_on_after_a_resize() -> None:
    gaussians, optimizer = make()
    resize(gaussians, optimizer, torch.tensor([0, 1, 1, 5]), torch.tensor([2]))
    before = gaussians.means.detach().clone()
    gaussians.means.sum().backward()
    optimizer.step()
    assert bool((gaussians.means != before).all())


def test_clone_split_and_budget() -> None:
    gaussians, optimizer = make()
    extent = 0.1
    config = DensifyConfig(start=0, prune_opacity=0.0, prune_opacity_gain=0.0, percent_dense=0.05)
    with torch.no_grad():
        gaussians.raw_scales[:] = -7.0  # small: clone
        gaussians.raw_scales[3] = -3.0  # 0.049 > 0.05 * 0.1: split
    state = DensifyState.zeros(6, "cpu")
    state.seen[:] = 1.0
    state.gradient[1] = state.gradient[3] = 1.0
    parent = gaussians.means[3].detach().clone()
    scale = float(gaussians.scales[3, 0].detach())
    draw = torch.Generator().manual_seed(0)
    new = densify_and_prune(gaussians, optimizer, state, config, iteration=10, extent=extent, generator=draw)
    assert gaussians.count == 8 and new.gradient.shape == (8,)
    assert torch.equal(gaussians.means[5], gaussians.means[1])  # the clone sits on its parent
    halves = gaussians.means[6:]
    assert float((halves - parent).detach().norm(dim=1).max()) < 4 * scale
    assert torch.allclose(gaussians.scales[6:], torch.full((2, 3), scale / 1.6), rtol=1e-4)
    state = DensifyState.zeros(8, "cpu")
    state.seen[:] = 1.0
    state.gradient[:] = torch.arange(1.0, 9.0)
    config = DensifyConfig(start=0, prune_opacity=0.0, prune_opacity_gain=0.0, max_gaussians=10)
    densify_and_prune(gaussians, optimizer, state, config, iteration=10, extent=extent, generator=draw)
    assert gaussians.count == 10


def test_faint_ones_go_but_never_the_last() -> None:
    gaussians, optimizer = make()
    with torch.no_grad():
        gaussians.opacity_logits[:] = -9.0
        gaussians.opacity_logits[2] = -8.0
    best = gaussians.means[2].detach().clone()
    state = DensifyState.zeros(6, "cpu")
    draw = torch.Generator().manual_seed(0)
    densify_and_prune(gaussians, optimizer, state, DensifyConfig(start=99), iteration=1, extent=0.1, generator=draw)
    assert gaussians.count == 1
    assert torch.equal(gaussians.means[0], best)


def test_statistics_are_in_normalised_device_units() -> None:
    state = DensifyState.zeros(2, "cpu")
    gradient = torch.tensor([[[[3.0, 4.0], [0.0, 0.0]]]])
    sample_statistics(state, gradient, torch.tensor([[[5.0, 0.0]]]), 256, 256)
    assert state.gradient[0] == pytest.approx(5.0 * 128)
    assert state.seen.tolist() == [1.0, 0.0]


def test_chroma_key_finds_only_green() -> None:
    gaussians, optimizer = make(3)
    colours = torch.tensor([[0.0, 1.0, 0.0], [0.3, 0.9, 0.1], [0.9, 0.2, 0.2]])
    with torch.no_grad():
        gaussians.sh0[:, 0] = rgb_to_sh0(colours)
    green = green_gaussians(gaussians, torch.tensor([0.0, 0.0, 4.0]), 0, mouth=False)
    assert green.tolist() == [True, False, False]
    prune(gaussians, optimizer, ~green)
    assert gaussians.count == 2


def test_raw_scales_are_those_of_the_scales() -> None:
    scales = torch.tensor([[1e-6, 1e-3, 0.5]])
    torch.testing.assert_close(torch.nn.functional.softplus(raw_scales_of(scales)), scales)


def test_chroma_key_is_what_a_camera_sees_of_it() -> None:
    gaussians, _ = make(2)
    centre = torch.tensor([0.0, 0.0, 4.0])
    with torch.no_grad():
        gaussians.sh0[:, 0] = rgb_to_sh0(torch.tensor([0.0, 0.8, 0.0]))
        gaussians.sh_rest.zero_()
        # Degree one along z, which this camera looks down: the first Gaussian's green grows, the second's falls.
        gaussians.sh_rest[:, 1, 1] = torch.tensor([-0.5, 0.5])
    assert green_gaussians(gaussians, centre, 1, mouth=False).tolist() == [True, False]
    assert green_gaussians(gaussians, -centre, 1, mouth=False).tolist() == [False, True]
    assert green_gaussians(gaussians, centre, 0, mouth=False).tolist() == [False, False]
