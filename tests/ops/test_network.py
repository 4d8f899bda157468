"""Motion networks with gradient: kernel against reference, values and all gradients."""

import pytest
import torch
from torch import Tensor

from emotalking.ops.network import MAX_WIDTH, NETWORK, AttentionMap, Network, offsets

FACE = ((32, 32, False), (16, 6, True), (16, 2, True))
"""Inner width, keys and ReLU of the face's attention maps."""


def made(count: int, hidden: int, outputs: int, maps: tuple[tuple[int, int, bool], ...], share: bool) -> Network:
    """Random weights in float64; the last map has a share."""
    rng = torch.Generator().manual_seed(count)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64) / shape[-1] ** 0.5

    heads = [AttentionMap(normal(inner, 36), normal(keys, inner), rectified) for inner, keys, rectified in maps]
    if share:
        heads[-1] = AttentionMap(heads[-1].inner, heads[-1].outer, heads[-1].rectified, normal(count, 1).abs())
    keys = sum(keys for _, keys, _ in maps)
    return Network(tuple(heads), normal(hidden, 36 + keys), normal(hidden, hidden), normal(outputs, hidden))


def results(
    network: Network, inputs: list[Tensor | None], grad: Tensor, backend: str, dtype: torch.dtype
) -> list[Tensor]:
    """Offsets, and the gradients of inputs and weights."""

    def leaf(value: Tensor) -> Tensor:
        leaves.append(value.to(dtype, copy=True).requires_grad_())
        return leaves[-1]

    leaves: list[Tensor] = []
    features, codes, bias = (None if each is None else leaf(each) for each in inputs)
    shares = [None if each.share is None else each.share.to(dtype) for each in network.maps]
    maps = tuple(
        AttentionMap(leaf(each.inner), leaf(each.outer), each.rectified, share)
        for each, share in zip(network.maps, shares, strict=True)
    )
    copied = Network(maps, *(leaf(each) for each in (network.first, network.second, network.third)))
    assert features is not None and codes is not None
    moved = offsets(copied, features, codes, bias, backend=backend)
    moved.backward(grad.to(dtype))
    return [moved, *(torch.zeros_like(each) if each.grad is None else each.grad for each in leaves)]


@pytest.mark.parametrize(
    ("count", "frames", "own", "hidden", "outputs", "maps", "share", "biased"),
    [
        (200, 1, 1, 64, 10, FACE, True, False),
        (97, 3, 1, 64, 10, FACE, True, True),
        (50, 2, 2, 64, 10, ((16, 16, True),), False, False),
        (1, 2, 1, 32, 3, (), False, True),
        (49, 1, 1, 37, 5, ((3, 5, True), (7, 11, False)), False, True),
        (48, 1, 1, MAX_WIDTH, 10, ((60, 50, False), (68, 42, True)), True, False),
    ],
)
def test_kernel_equals_reference(
    count: int, frames: int, own: int, hidden: int, outputs: int, maps: tuple, share: bool, biased: bool
) -> None:
    network, rng = made(count, hidden, outputs, maps, share), torch.Generator().manual_seed(frames)
    keys = sum(keys for _, keys, _ in maps)
    bias = torch.randn(frames, hidden, generator=rng) if biased else None
    inputs = [torch.randn(own, count, 36, generator=rng), torch.randn(frames, keys, generator=rng), bias]
    grad = torch.randn(frames, count, outputs, generator=rng)
    actual = results(network, inputs, grad, "cpu", torch.float32)
    expected = results(network, inputs, grad, "reference", torch.float64)
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        if e.numel():
            assert (a - e).abs().max() < 1e-5 * e.abs().max()  # worst seen: 3e-6


def test_threads_add_in_a_fixed_order() -> None:
    network, rng = made(500, 64, 10, FACE, True), torch.Generator().manual_seed(0)
    inputs = [torch.randn(1, 500, 36, generator=rng), torch.randn(1, 40, generator=rng), None]
    grad, before = torch.randn(1, 500, 10, generator=rng), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        first, second = (results(network, inputs, grad, "cpu", torch.float32) for _ in range(2))
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, first, second))
    single = results(network, inputs, grad, "cpu", torch.float32)
    for a, b in zip(first, single, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_what_is_no_number_is_not_hidden() -> None:
    network, codes = made(50, 64, 10, FACE, True), torch.randn(1, 40)
    codes[0, 3] = torch.nan
    moved = results(network, [torch.randn(1, 50, 36), codes, None], torch.ones(1, 50, 10), "cpu", torch.float32)[0]
    assert torch.isnan(moved).all()


def test_what_does_not_fit_is_refused_or_left_to_the_reference() -> None:
    network = made(3, 8, 10, ((4, 2, True),), False)
    features, codes = torch.zeros(1, 3, 36, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="codes: expected 2"):
        offsets(network, features, codes[:, :1])
    with pytest.raises(ValueError, match="features: expected those of 1 or 3 frames"):
        offsets(network, features.expand(2, -1, -1), codes.expand(3, -1))
    assert offsets(network, features[:, :0], codes).shape == (1, 0, 10)
    offsets(network, features, codes)
    assert NETWORK.last_run == "reference"  # float64
