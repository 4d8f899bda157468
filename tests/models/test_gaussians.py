"""Gaussians start, activate and deform as documented."""

import torch

from emotalking.models.gaussians import Gaussians, neighbour_distance


def make() -> Gaussians:
    return Gaussians(torch.rand(20, 3, generator=torch.Generator().manual_seed(0)), torch.full((20, 3), 0.3), 2)


def test_initial_values() -> None:
    gaussians = make()
    assert torch.allclose(gaussians.opacities, torch.full((20,), 0.1), atol=1e-5)
    distance = neighbour_distance(gaussians.means)
    assert torch.allclose(gaussians.scales[:, 0], torch.log1p(distance), atol=1e-5)
    colours = gaussians.colours(gaussians.means[None], torch.zeros(1, 3), 2)
    assert torch.allclose(colours, torch.full_like(colours, 0.3), atol=1e-5)


def test_no_offset_is_the_static_model() -> None:
    gaussians = make()
    still = gaussians.deform()
    moved = gaussians.deform(torch.zeros(2, 20, 3), torch.zeros(2, 20, 4), torch.zeros(2, 20, 3))
    assert torch.equal(still.means[0], moved.means[1])
    assert torch.allclose(still.scales[0], moved.scales[0])
    assert still.offsets == {} and set(moved.offsets) == {"d_means", "d_quats", "d_scales"}


def test_neighbour_distance_of_a_line_and_of_one_point() -> None:
    line = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [2.0, 0, 0], [3.0, 0, 0]])
    assert torch.allclose(neighbour_distance(line)[0], torch.tensor(((1 + 4 + 9) / 3) ** 0.5))
    assert neighbour_distance(torch.zeros(1, 3)).tolist() == [0.009999999776482582]
