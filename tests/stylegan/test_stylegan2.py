"""StyleGAN2: published names, shapes and sizes, and agreement with the slow form, gradients included."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from emotalking.stylegan.adversarial import StyleGAN2Discriminator
from emotalking.stylegan.stylegan2 import (
    FILTER,
    StyleGAN2,
    StyleGAN2Size,
    double,
    from_images,
    low_pass,
    modulated_conv,
    to_images,
)

from ..networks import public_layouts
from . import plain_stylegan2 as plain
from . import stylegan2_layouts

SMALL = StyleGAN2Size(resolution=16, channel_base=64, channel_max=6, style_dim=5, mapping_layers=2)


def stirred(network: nn.Module, seed: int = 0) -> nn.Module:
    """Network in double precision, with zero-initialised parameters randomised."""
    torch.manual_seed(seed)
    for parameter in network.double().parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return network


def shapes(network: nn.Module) -> public_layouts.Layout:
    """Names and shapes of a network."""
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def test_names_and_shapes_are_the_published_ones() -> None:
    published = stylegan2_layouts.pytorch()
    generator, discriminator = StyleGAN2(), StyleGAN2Discriminator(StyleGAN2Size())
    assert shapes(generator) == {name: shape for name, shape in published.items() if "resample_filter" not in name}
    # The authors' summary of the networks for FFHQ at 1024 pixels.
    assert sum(p.numel() for p in generator.parameters()) == 30_370_060
    assert sum(p.numel() for p in discriminator.parameters()) == 29_012_513
    assert StyleGAN2Size().styles == 18 and StyleGAN2Size(resolution=64).styles == 10


@pytest.mark.parametrize(("up", "demodulate", "taps"), [(True, True, 3), (False, True, 3), (False, False, 1)])
def test_modulated_convolution_agrees_with_the_slow_form(up: bool, demodulate: bool, taps: int) -> None:
    torch.manual_seed(1)
    inputs = [
        torch.randn(shape, dtype=torch.double, requires_grad=True) for shape in ((2, 4, 5, 6), (3, 4, taps, taps))
    ]
    styles = torch.randn(2, 4, dtype=torch.double, requires_grad=True)
    bias = torch.randn(3, dtype=torch.double)
    fast = modulated_conv(*inputs, styles, bias, demodulate=demodulate, up=up, gain=1.5)
    slow = torch.stack(
        [plain.modulated(x, inputs[1], s, demodulate, up) for x, s in zip(inputs[0], styles, strict=True)]
    )
    slow = 1.5 * (slow + bias[:, None, None])
    torch.testing.assert_close(fast, slow)
    assert fast.shape == (2, 3, 10 if up else 5, 12 if up else 6)
    weight = torch.randn_like(fast)
    ours, theirs = (torch.autograd.grad((out * weight).sum(), [*inputs, styles]) for out in (fast, slow))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_changes_of_size_keep_brightness_and_place() -> None:
    flat = torch.full((1, 2, 8, 8), 0.7)
    torch.testing.assert_close(double(flat)[..., 2:-2, 2:-2], torch.full((1, 2, 12, 12), 0.7))
    torch.testing.assert_close(low_pass(flat, 1, down=2)[..., 1:-1, 1:-1], torch.full((1, 2, 2, 2), 0.7))
    ramp = (torch.arange(8.0) + 0.5).expand(1, 1, 8, 8)  # the value is the place, in pixels
    finer = double(ramp)[0, 0, 8, 4:-4]
    torch.testing.assert_close(finer, (torch.arange(4.0, 12.0) + 0.5) / 2)
    coarser = low_pass(ramp, 1, down=2)[0, 0, 2, 1:-1]
    torch.testing.assert_close(coarser, torch.tensor([3.0, 5.0]))


@pytest.mark.parametrize(("room", "down"), [(1, 1), (2, 1), (1, 2)])
def test_low_pass_is_one_convolution_with_the_filter(room: int, down: int) -> None:
    x = torch.randn(2, 3, 7, 10, dtype=torch.double)
    taps = torch.tensor(FILTER, dtype=torch.double)
    kernel = (torch.outer(taps, taps) / taps.sum() ** 2).expand(3, 1, 4, 4)
    torch.testing.assert_close(low_pass(x, room, down=down), F.conv2d(x, kernel, None, down, room, groups=3))


def test_double_is_one_transposed_convolution_with_the_filter() -> None:
    x = torch.randn(2, 3, 7, 10, dtype=torch.double)
    taps = torch.tensor(FILTER, dtype=torch.double)
    kernel = (torch.outer(taps, taps) * 4 / taps.sum() ** 2).expand(3, 1, 4, 4)
    torch.testing.assert_close(double(x), F.conv_transpose2d(x, kernel, None, 2, 1, groups=3))


def test_generator_agrees_with_the_slow_form() -> None:
    network = stirred(StyleGAN2(SMALL))
    assert isinstance(network, StyleGAN2)
    weights = dict(network.state_dict(keep_vars=True))
    z = torch.randn(2, 5, dtype=torch.double)
    w = network.mapping(z)
    torch.testing.assert_close(w, torch.stack([plain.mapping(weights, one) for one in z]))
    ws = (w[:, None] + torch.randn(2, SMALL.styles, 5, dtype=torch.double)).detach().requires_grad_()
    fast = network.synthesis(ws)
    slow = torch.stack([plain.synthesis(weights, one) for one in ws])
    torch.testing.assert_close(fast, slow)
    asked = [ws, network.synthesis.get_parameter("b16.conv0.weight"), network.synthesis.get_parameter("b4.const")]
    asked += [network.synthesis.get_parameter("b8.conv1.noise_strength")]
    weight = torch.randn_like(fast)
    ours, theirs = (torch.autograd.grad((out * weight).sum(), asked) for out in (fast, slow))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_styles_of_one_picture_do_not_touch_another() -> None:
    network = stirred(StyleGAN2(SMALL))
    ws = torch.randn(3, SMALL.styles, 5, dtype=torch.double)
    torch.testing.assert_close(network.synthesis(ws)[1:2], network.synthesis(ws[1:2]))
    torch.testing.assert_close(network.synthesis(ws[:, 0]), network.synthesis(ws[:, :1].expand(-1, SMALL.styles, -1)))
    with pytest.raises(ValueError, match="6 styles an image, got 5"):
        network.synthesis(ws[:, :5])


def test_noise_and_truncation() -> None:
    network = stirred(StyleGAN2(SMALL))
    z = torch.randn(2, 5, dtype=torch.double)
    const, again, none = (network(z, noise=kind) for kind in ("const", "const", "none"))
    assert torch.equal(const, again) and not torch.allclose(const, none)
    assert not torch.equal(network(z, noise="random"), network(z, noise="random"))
    network.mapping.track(network.mapping(z), decay=0.0)
    mean = network.mapping(z).mean(0)
    torch.testing.assert_close(network.mapping.w_avg, mean)
    torch.testing.assert_close(network(z, psi=0.0), network.synthesis(mean.expand(2, -1)))
    half = network.mapping.truncate(network.mapping(z), 0.5)
    torch.testing.assert_close(half, (network.mapping(z) + mean) / 2)


def test_bound_of_files_made_at_half_precision() -> None:
    torch.manual_seed(0)
    free = StyleGAN2(SMALL)
    bound = StyleGAN2(StyleGAN2Size(**{**vars(SMALL), "clamp": 0.5}))
    bound.load_state_dict(free.state_dict())
    styles = free.mapping(torch.randn(1, 5))[:, None].expand(-1, 3, -1)
    blocks = [network.synthesis.get_submodule("b4") for network in (free, bound)]
    most = [block(None, None, styles, "const")[0].abs().max() for block in blocks]
    assert most[0] > 0.5 and most[1] == 0.5


def test_discriminator_agrees_with_the_slow_form() -> None:
    network = stirred(StyleGAN2Discriminator(SMALL))
    weights = dict(network.state_dict(keep_vars=True))
    images = torch.randn(3, 3, 16, 16, dtype=torch.double, requires_grad=True)
    fast, slow = network(images), plain.discriminator(weights, images)
    torch.testing.assert_close(fast, slow)
    ours, theirs = (torch.autograd.grad(out.square().sum(), images, create_graph=True)[0] for out in (fast, slow))
    torch.testing.assert_close(ours, theirs)
    asked = [network.get_parameter(name) for name in ("b16.fromrgb.weight", "b16.conv1.weight", "b8.skip.weight")]
    second = [torch.autograd.grad(slope.square().sum(), asked, retain_graph=True) for slope in (ours, theirs)]
    for a, b in zip(*second, strict=True):
        torch.testing.assert_close(a, b)


def test_the_two_can_learn() -> None:
    """One step of each with the non-saturating loss and R1, whose gradient is of second order."""
    torch.manual_seed(0)
    generator, discriminator = StyleGAN2(SMALL), StyleGAN2Discriminator(SMALL)
    real = torch.rand(4, 16, 16, 3)
    images = from_images(real).requires_grad_()
    scores = discriminator(images)
    slope = torch.autograd.grad(scores.sum(), images, create_graph=True)[0]
    (nn.functional.softplus(-scores).mean() + slope.square().sum((1, 2, 3)).mean()).backward()
    nn.functional.softplus(-discriminator(generator(torch.randn(4, 5)))).mean().backward()
    for parameter in (*generator.parameters(), *discriminator.parameters()):
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all() and parameter.grad.abs().max() > 0


def test_pictures_are_images() -> None:
    drawn = torch.tensor([-2.0, -1.0, 0.0, 1.0]).view(1, 1, 2, 2).expand(1, 3, 2, 2)
    images = to_images(drawn)
    assert images.shape == (1, 2, 2, 3) and images[0, ..., 0].flatten().tolist() == [0.0, 0.0, 0.5, 1.0]
    torch.testing.assert_close(from_images(images), drawn.clamp(-1, 1))


@pytest.mark.parametrize("resolution", [4, 48, 1000])
def test_other_sizes_are_refused(resolution: int) -> None:
    with pytest.raises(ValueError, match=f"power of two from 8 to 4096, got {resolution}"):
        StyleGAN2Size(resolution=resolution)
