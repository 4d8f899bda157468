"""LPIPS: its properties with random weights, and the reference package's value with the real ones."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch

from emotalking.errors import InputError
from emotalking.networks.lpips import Lpips, files_of, found_backbone
from emotalking.networks.registry import model_path
from emotalking.networks.weights import read_weights

from . import public_layouts

BACKBONES = ("alex", "vgg", "squeeze")


@pytest.fixture(scope="module", params=BACKBONES)
def distance(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Lpips:
    """The distance from files with random weights."""
    folder = tmp_path_factory.mktemp("lpips")
    torch.save(public_layouts.random_weights(public_layouts.classifier(request.param)), folder / "n.pth")
    heads = {k: v.abs() for k, v in public_layouts.random_weights(public_layouts.heads(request.param)).items()}
    torch.save(heads, folder / "h.pth")
    return Lpips.open(request.param, folder / "n.pth", folder / "h.pth")


def pictures(count: int = 2, size: tuple[int, int] = (35, 40)) -> torch.Tensor:
    """Random RGB."""
    return torch.rand(count, *size, 3, generator=torch.Generator().manual_seed(5))


def test_equal_pictures_have_no_distance_and_more_change_has_more(distance: Lpips) -> None:
    a = pictures()
    assert distance(a, a).tolist() == [0, 0]
    noise = torch.randn(a.shape, generator=torch.Generator().manual_seed(6))
    near, far = (distance(a, (a + amount * noise).clamp(0, 1)) for amount in (0.02, 0.3))
    assert (near > 0).all() and (far > near).all() and distance(a, a.flip(0)).shape == (2,)
    b = (a + 0.1 * noise).clamp(0, 1)
    torch.testing.assert_close(distance(a, b), distance(b, a))
    one = torch.cat([distance(a[:1], b[:1]), distance(a[1:], b[1:])])
    torch.testing.assert_close(distance(a, b), one, rtol=1e-4, atol=1e-6)


def test_gradients_flow_to_the_picture_only(distance: Lpips) -> None:
    a = pictures(1).requires_grad_()
    distance(a, pictures(2)[1:]).sum().backward()
    assert a.grad is not None and torch.isfinite(a.grad).all() and a.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in distance.parameters())
    black = torch.zeros(1, 35, 40, 3, requires_grad=True)
    distance(black, torch.zeros(1, 35, 40, 3)).sum().backward()
    assert black.grad is not None and torch.isfinite(black.grad).all()


def test_values_and_gradients_are_those_of_the_formula(distance: Lpips) -> None:
    """Of both pictures; black ones have features of length zero."""
    exact = deepcopy(distance).double()
    mixed = torch.cat([pictures(1), torch.zeros(1, 35, 40, 3)])
    a, b = (each.double().requires_grad_() for each in (mixed, pictures(2)))
    slopes = torch.tensor([1.0, -0.3], dtype=torch.float64)
    units = []
    for image in (a, b):
        taps = exact.classifier((image.permute(0, 3, 1, 2) * 2 - 1 - exact.shift) / exact.scale)
        units.append([tap / (torch.linalg.vector_norm(tap, dim=1, keepdim=True) + 1e-10) for tap in taps])
    weights = [weight.flatten() for weight in exact.heads.parameters()]
    parts = zip(*units, weights, strict=True)
    plain = sum(((one - two) ** 2 * w[:, None, None]).sum(1).mean((1, 2)) for one, two, w in parts)
    assert isinstance(plain, torch.Tensor)
    wanted = torch.autograd.grad(plain, (a, b), slopes)
    value = exact(a, b)
    torch.testing.assert_close(value, plain)
    torch.testing.assert_close(torch.autograd.grad(value, (a, b), slopes), wanted)


def test_a_backbone_of_another_kind_is_refused(tmp_path: Path) -> None:
    network = public_layouts.write_checkpoint(tmp_path / "n.pth", public_layouts.classifier("alex"))
    with pytest.raises(InputError, match="features"):
        Lpips.open("squeeze", network, network)


def test_the_packages_files_give_the_reference_packages_value(no_models: Path) -> None:
    distance = Lpips.open(found_backbone())
    assert distance.name == "LPIPS (squeeze)" and all(p.dtype == torch.float32 for p in distance.parameters())
    ys, xs = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 64), indexing="ij")
    image = torch.stack([ys, xs, ys * xs], -1)[None]
    # lpips 0.1.4 with these weights says 0.38143012.
    assert distance(image, image.flip(1)).item() == pytest.approx(0.38143012, abs=2e-6)


def test_the_users_files_come_before_the_packages(no_models: Path) -> None:
    network, heads = (model_path(name) for name in files_of("squeeze"))
    public_layouts.write_checkpoint(no_models / "squeezenet1_1-b8a52dc0.pth", public_layouts.classifier("squeeze"))
    assert model_path("squeezenet") == no_models / "squeezenet1_1-b8a52dc0.pth" != network
    assert model_path("lpips_squeeze") == heads and found_backbone() == "squeeze"
    for name, layout in (("alexnet-owt-7be5be79.pth", "alex"), ("alex.pth", "")):
        assert found_backbone() == "squeeze"
        content = public_layouts.classifier("alex") if layout else public_layouts.heads("alex")
        public_layouts.write_checkpoint(no_models / name, content)
    assert found_backbone() == "alex"


@pytest.mark.realdata
def test_the_packages_files_hold_the_published_numbers(real_data: Path, no_models: Path) -> None:
    network, heads = (read_weights(model_path(name)) for name in files_of("squeeze"))
    published = read_weights(real_data / "models/lpips/squeezenet1_1.npz")
    assert network.keys() == {name for name in published if name.startswith("features.")}
    for name, tensor in network.items():
        assert torch.equal(tensor, published[name])
        assert tensor.dim() == 1 or torch.equal(tensor, tensor.half().float())
    published = read_weights(real_data / "models/lpips/squeeze_lin_v0.1.pth")
    assert heads.keys() == published.keys() and all(torch.equal(heads[name], published[name]) for name in heads)
