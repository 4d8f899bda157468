"""The tri-plane encoder: its sizes, values by hand, kernel against reference."""

import pytest
import torch
from torch import Tensor

from emotalking.ops.triplane import FACE_TRIPLANE, MOUTH_TRIPLANE, TriplaneSpec, encode, entries_per_plane, num_features

both = pytest.mark.parametrize("backend", ["reference", "cpu"])
SMALL = TriplaneSpec(levels=3, base=3.0, finest=5.5, bound=0.5)


def test_sizes_of_the_presets_are_the_papers_codes() -> None:
    assert entries_per_plane(FACE_TRIPLANE) == 9_464
    assert entries_per_plane(MOUTH_TRIPLANE) == 46_600
    resolutions = [stride - 1 for stride in FACE_TRIPLANE.strides]
    assert resolutions == [16, 18, 19, 21, 22, 24, 26, 28, 31, 33, 36, 39]
    assert MOUTH_TRIPLANE.strides[0] - 1 == 64 and MOUTH_TRIPLANE.strides[-1] - 1 == 58
    assert num_features(FACE_TRIPLANE) == num_features(MOUTH_TRIPLANE) == 36
    factor = (MOUTH_TRIPLANE.scales[1] + 1) / (MOUTH_TRIPLANE.scales[0] + 1)
    assert round(factor, 4) == 0.9905


def linear_table(spec: TriplaneSpec, slope_a: float, slope_b: float) -> Tensor:
    """A table that holds ``slope_a * i + slope_b * j`` at corner (i, j) of every level and plane."""
    table = torch.zeros(3, entries_per_plane(spec))
    for stride, offset in zip(spec.strides, spec.offsets, strict=False):
        j, i = torch.meshgrid(torch.arange(stride), torch.arange(stride), indexing="ij")
        table[:, offset : offset + stride * stride] = (slope_a * i + slope_b * j).reshape(-1).float()
    return table


@both
def test_bilinear_grids_reproduce_linear_functions(backend: str) -> None:
    """Position inside a level is ``u * scale + 0.5`` along each axis; planes are xy, yz, xz, first axis fastest."""
    points = torch.tensor([[-0.5, 0.1, 0.49], [0.0, 0.5, -0.3], [0.5, 0.5, 0.5]])
    features = encode(points, linear_table(SMALL, 1.0, 10.0), SMALL, backend=backend).reshape(3, 3, 3)
    u = (points + 0.5).double()
    for plane, (a, b) in enumerate(((0, 1), (1, 2), (0, 2))):
        for level, scale in enumerate(SMALL.scales):
            expected = (u[:, a] * scale + 0.5) + 10 * (u[:, b] * scale + 0.5)
            torch.testing.assert_close(features[:, plane, level].double(), expected, rtol=1e-5, atol=1e-4)


@both
def test_outside_coordinates_blank_their_planes(backend: str) -> None:
    table = torch.ones(3, entries_per_plane(SMALL))
    points = torch.tensor([[0.6, 0, 0], [0, -0.51, 0], [0, 0, 7.0], [0, 0, 0], [9.0, 9, 0]])
    seen = encode(points, table, SMALL, backend=backend).reshape(5, 3, 3).mean(dim=-1)
    expected = torch.tensor([[0.0, 1, 0], [0, 0, 1], [1, 0, 0], [1, 1, 1], [0, 0, 0]])
    torch.testing.assert_close(seen, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("spec", [FACE_TRIPLANE, MOUTH_TRIPLANE, SMALL, TriplaneSpec(levels=1)])
@pytest.mark.parametrize("shape", [(257, 3), (2, 3, 19, 3), (1, 3), (0, 3)])
def test_kernel_equals_reference(spec: TriplaneSpec, shape: tuple[int, ...]) -> None:
    rng = torch.Generator().manual_seed(0)
    points = (torch.rand(shape, generator=rng) - 0.5) * 2.2 * spec.bound  # some of them outside
    table = torch.randn(3, entries_per_plane(spec), generator=rng)
    grad = torch.randn(*shape[:-1], num_features(spec), generator=rng)
    results = []
    for backend, dtype in (("cpu", torch.float32), ("reference", torch.float64)):
        p, t = points.to(dtype, copy=True).requires_grad_(), table.to(dtype, copy=True).requires_grad_()
        features = encode(p, t, spec, backend=backend)
        features.backward(grad.to(dtype))
        assert features.shape == (*shape[:-1], num_features(spec))
        results.append((features, p.grad, t.grad))
    for actual, expected in zip(*results, strict=True):
        if expected.numel():
            assert (actual - expected).abs().max() < 5e-5 * expected.abs().max().clamp(min=1)


@both
def test_gradient_only_where_asked(backend: str) -> None:
    table = torch.rand(3, entries_per_plane(SMALL), requires_grad=True)
    points = torch.rand(7, 3) - 0.5
    encode(points, table, SMALL, backend=backend).sum().backward()
    assert table.grad is not None
    # Every feature's corner weights sum to one.
    torch.testing.assert_close(table.grad.sum(), torch.tensor(7.0 * 9), rtol=1e-5, atol=0)
    points.requires_grad_()
    encode(points, table.detach(), SMALL, backend=backend).sum().backward()
    assert points.grad is not None and points.grad.abs().max() > 0


def test_gradcheck_of_the_reference() -> None:
    rng = torch.Generator().manual_seed(4)
    points = ((torch.rand(5, 3, generator=rng, dtype=torch.float64) - 0.5) * 0.9).requires_grad_()
    table = torch.randn(3, entries_per_plane(SMALL), generator=rng, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda p, t: encode(p, t, SMALL), (points, table), fast_mode=True)


def test_wrong_arguments_are_named() -> None:
    points, table = torch.zeros(2, 3), torch.zeros(3, entries_per_plane(SMALL))
    with pytest.raises(ValueError, match="table"):
        encode(points, table[:, :-1], SMALL)
    with pytest.raises(ValueError, match="table"):
        encode(points.double(), table, SMALL)
    with pytest.raises(ValueError, match="float32"):
        encode(points.double(), table.double(), SMALL, backend="cpu")
    with pytest.raises(ValueError, match="bound"):
        TriplaneSpec(bound=0.0)
