"""The rasterizer: values by hand, laws, edges, and refusals; on the reference and on the compiled kernel."""

import math
from typing import Any

import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from emotalking.ops import geometry
from emotalking.ops.rasterize import rasterize
from emotalking.ops.splatting import BLUR_2D, MAX_ALPHA, MIN_ALPHA

both = pytest.mark.parametrize("backend", ["reference", "cpu"])


def single(z: float = 2.0, opacity: float = 0.5, scale: float = 0.1, x: float = 0.0) -> dict[str, Any]:
    """One round Gaussian on the optical axis of a 9 x 9 camera with focal length 10."""
    return {
        "means": torch.tensor([[x, 0.0, z]]),
        "quats": torch.tensor([[1.0, 0, 0, 0]]),
        "scales": torch.full((1, 3), scale),
        "opacities": torch.tensor([opacity]),
        "features": torch.tensor([[0.2, 0.4, 0.8]]),
        "viewmats": torch.eye(4)[None],
        "Ks": torch.tensor([[[10.0, 0, 4.5], [0, 10.0, 4.5], [0, 0, 1]]]),
        "width": 9,
        "height": 9,
    }


def joined(*scenes: dict[str, Any]) -> dict[str, Any]:
    names = ("means", "quats", "scales", "opacities", "features")
    return {**scenes[0], **{name: torch.cat([scene[name] for scene in scenes]) for name in names}}


@both
def test_one_gaussian_by_hand(backend: str) -> None:
    scene = single()
    background = torch.tensor([1.0, 0.0, 0.5])
    out = rasterize(**scene, background=background, backend=backend)
    variance = (10 / 2 * 0.1) ** 2 + BLUR_2D  # focal / z * scale, squared, plus the blur
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 2)):
        alpha = 0.5 * math.exp(-0.5 * (dx * dx + dy * dy) / variance)
        alpha = alpha if alpha >= MIN_ALPHA else 0.0
        expected = alpha * scene["features"][0] + (1 - alpha) * background
        torch.testing.assert_close(out.features[0, 4 + dy, 4 + dx], expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(out.alpha[0, 4 + dy, 4 + dx], torch.tensor(alpha), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(out.depth[0, 4 + dy, 4 + dx], torch.tensor(2 * alpha), rtol=1e-5, atol=1e-6)
    assert out.radii.tolist() == [[math.ceil(math.sqrt(2 * math.log(0.5 * 255) * variance))]]
    assert out.features[0, 0, 0].tolist() == background.tolist()


@both
def test_order_of_depth_decides_not_order_of_input(backend: str) -> None:
    front, back = single(z=2.0, opacity=0.6), single(z=3.0, opacity=0.5)
    back["features"] = torch.tensor([[1.0, 0.0, 0.0]])
    for scene in (joined(front, back), joined(back, front)):
        out = rasterize(**scene, backend=backend)
        expected = 0.6 * front["features"][0] + 0.4 * 0.5 * back["features"][0]
        torch.testing.assert_close(out.features[0, 4, 4], expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(out.depth[0, 4, 4], torch.tensor(0.6 * 2 + 0.2 * 3), rtol=1e-5, atol=1e-6)


@both
def test_turned_ellipse_points_where_it_should(backend: str) -> None:
    scene = single(opacity=0.9)
    scene["scales"] = torch.tensor([[0.4, 0.02, 0.02]])
    half = math.radians(45) / 2  # about the viewing axis: x right towards y down
    scene["quats"] = torch.tensor([[math.cos(half), 0, 0, math.sin(half)]])
    alpha = rasterize(**scene, backend=backend).alpha[0]
    along = 0.9 * math.exp(-0.5 * 8 / ((5 * 0.4) ** 2 + BLUR_2D))  # 2 px right and 2 px down lie on the long axis
    torch.testing.assert_close(alpha[6, 6], torch.tensor(along), rtol=1e-4, atol=0)
    torch.testing.assert_close(alpha[2, 2], torch.tensor(along), rtol=1e-4, atol=0)
    assert alpha[2, 6] < 0.01 and alpha[6, 2] < 0.01


@both
def test_hidden_gaussian_changes_nothing(backend: str, random_scene) -> None:
    scene = random_scene(count=40)
    wall = {
        "means": torch.tensor([[0.0, 0, -1.0]]).repeat(3, 1),
        "quats": torch.tensor([[1.0, 0, 0, 0]]).repeat(3, 1),
        "scales": torch.tensor([[50.0, 50, 0.01]]).repeat(3, 1),
        "opacities": torch.ones(3),
        "features": torch.rand(3, 3),
    }
    behind = {name: scene[name] for name in wall}
    behind["means"] = behind["means"].clamp(min=-0.9)
    alone = rasterize(**{**scene, **wall}, backend=backend)
    both_ = rasterize(**{**scene, **{n: torch.cat((wall[n], behind[n])) for n in wall}}, backend=backend)
    assert torch.equal(alone.features, both_.features)
    assert torch.equal(alone.alpha, both_.alpha)
    assert alone.alpha.min() > 0.998


def _turned(quats: Tensor, turn: Tensor) -> Tensor:
    """``turn`` applied after ``quats``, wxyz."""
    both = Rotation.from_quat(turn.roll(-1).numpy()) * Rotation.from_quat(quats.roll(-1, dims=-1).numpy())
    return torch.from_numpy(both.as_quat()).roll(1, dims=-1).to(quats)


@both
def test_turning_scene_and_camera_together_changes_nothing(backend: str, random_scene) -> None:
    scene = random_scene(count=60)
    turn = geometry.normalize(torch.tensor([0.3, -0.5, 0.7, 0.2]))
    R, shift = geometry.to_matrix(turn), torch.tensor([0.4, -1.0, 0.3])
    world = torch.eye(4)
    world[:3, :3], world[:3, 3] = R, shift
    turned: dict[str, Any] = {
        **scene,
        "means": scene["means"] @ R.T + shift,
        "quats": _turned(scene["quats"], turn),
        "viewmats": scene["viewmats"] @ torch.linalg.inv(world),
    }
    a, b = rasterize(**scene, backend=backend), rasterize(**turned, backend=backend)
    # Positions move by float32 rounding (about 1e-6 px * 60), which the Gaussians' slopes pass on.
    torch.testing.assert_close(a.features, b.features, rtol=0, atol=5e-5)
    torch.testing.assert_close(a.depth, b.depth, rtol=0, atol=2e-4)


@both
@pytest.mark.parametrize("case", ["none", "behind", "beside", "faint", "too near"])
def test_nothing_visible_gives_background_and_zero_gradient(backend: str, case: str) -> None:
    scene = single()
    if case == "none":
        scene |= {n: scene[n][:0] for n in ("means", "quats", "scales", "opacities", "features")}
    elif case == "behind":
        scene["means"] = torch.tensor([[0.0, 0, -2.0]])
    elif case == "beside":
        scene["means"] = torch.tensor([[100.0, 0, 2.0]])
    elif case == "faint":
        scene["opacities"] = torch.tensor([0.003])
    else:
        scene["means"] = torch.tensor([[0.0, 0, 0.005]])
    background = torch.tensor([0.1, 0.2, 0.3])
    means = scene["means"].requires_grad_()
    out = rasterize(**{**scene, "means": means}, background=background, backend=backend)
    assert torch.equal(out.features, background.expand(1, 9, 9, 3))
    assert out.alpha.abs().max() == 0 and out.depth.abs().max() == 0 and not out.radii.any()
    (out.features.sum() + out.alpha.sum() + out.depth.sum()).backward()
    assert means.grad is None or not means.grad.any()


@both
def test_huge_and_tiny_gaussians(backend: str) -> None:
    huge = rasterize(**single(scale=1e4, opacity=1.0), backend=backend)
    torch.testing.assert_close(huge.alpha, torch.full((1, 9, 9), MAX_ALPHA), rtol=1e-4, atol=0)
    tiny = rasterize(**single(scale=1e-8, opacity=0.5), backend=backend)
    torch.testing.assert_close(tiny.alpha[0, 4, 4], torch.tensor(0.5), rtol=1e-5, atol=0)
    assert tiny.radii.item() == math.ceil(math.sqrt(2 * math.log(0.5 * 255) * BLUR_2D))


def test_huge_gaussian_has_finite_gradients(gradients) -> None:
    scene = joined(single(scale=1e4, opacity=1.0), single(scale=3.0, z=0.02), single(scale=5.0, x=30.0))
    for name, value in gradients(scene, "cpu").items():
        assert torch.isfinite(value).all(), name


@both
def test_zero_quaternion_is_the_identity(backend: str) -> None:
    scene = single()
    expected = rasterize(**scene, backend=backend).features
    scene["quats"] = torch.zeros(1, 4, requires_grad=True)
    out = rasterize(**scene, backend=backend)
    assert torch.equal(out.features, expected)
    (gradient,) = torch.autograd.grad(out.features.sum(), scene["quats"])
    assert torch.isfinite(gradient).all()


@both
def test_probe_gradient_is_the_screen_gradient_in_pixels(backend: str) -> None:
    scene = single()
    probe = torch.zeros(1, 1, 2, requires_grad=True)
    column = torch.arange(9.0).expand(1, 9, 9)
    (rasterize(**scene, means2d_probe=probe, backend=backend).alpha * column).sum().backward()
    shift = 1e-2
    moved = [
        (rasterize(**scene, means2d_probe=torch.tensor([[[s, 0.0]]]), backend=backend).alpha * column).sum()
        for s in (-shift, shift)
    ]
    assert probe.grad is not None
    # The dropped contributions below 1/255 make the difference quotient jumpy: 2 % of the whole gradient.
    torch.testing.assert_close(probe.grad[0, 0, 0], (moved[1] - moved[0]) / (2 * shift), rtol=0.02, atol=0)
    assert abs(probe.grad[0, 0, 1].item()) < 1e-4


@pytest.mark.parametrize("name", ["means", "quats", "scales", "opacities", "features", "viewmats", "Ks", "background"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_and_infinity_are_refused_by_name(name: str, bad: float) -> None:
    scene: dict[str, Any] = {**single(), "background": torch.zeros(3)}
    broken = scene[name].clone()
    broken.view(-1)[0] = bad
    with pytest.raises(ValueError, match=f"^{name}: expected finite"):
        rasterize(**{**scene, name: broken})


def test_finite_check_can_be_left_out_and_large_values_pass_it() -> None:
    scene = single()
    scene["features"] = torch.tensor([[math.nan, 0, 0]])
    rasterize(**scene, validate=False)
    scene["features"] = torch.tensor([[3e38, 3e38, 3e38]])
    rasterize(**scene)


def wrong_arguments() -> list[tuple[str, Tensor | int]]:
    return [("width", 0), ("background", torch.zeros(3, dtype=torch.float64)), ("features", torch.zeros(1, 0))]


@pytest.mark.parametrize("name, value", wrong_arguments())
def test_wrong_arguments_are_named(name: str, value: Tensor | int) -> None:
    with pytest.raises(ValueError, match=name):
        rasterize(**{**single(), name: value})


def test_wrong_shape_is_an_error() -> None:
    with pytest.raises(Exception, match="quats"):
        rasterize(**{**single(), "quats": torch.zeros(1, 3)})


def test_backend_that_cannot_serve_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected auto"):
        rasterize(**single(), backend="metal")
    with pytest.raises(ValueError, match="CUDA|cuda"):
        rasterize(**single(), backend="gsplat")
    doubles: dict[str, Any] = {n: v.double() if isinstance(v, Tensor) else v for n, v in single().items()}
    with pytest.raises(ValueError, match="float32"):
        rasterize(**doubles, backend="cpu")
    camera = single()
    camera["viewmats"] = camera["viewmats"].requires_grad_()
    with pytest.raises(ValueError, match="viewmats"):
        rasterize(**camera, backend="cpu")
    assert rasterize(**doubles).backend == "reference"
    assert rasterize(**camera).backend == "reference"
    assert rasterize(**single()).backend == "cpu"


def test_no_compiler_falls_back_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from emotalking.ops.cpu import rasterize as cpu
    from emotalking.ops.cpu.build import NoCompiler

    def missing() -> None:
        raise NoCompiler("no C++ compiler found")

    monkeypatch.setattr(cpu, "library", missing)
    assert rasterize(**single()).backend == "reference"
    with pytest.raises(NoCompiler):
        rasterize(**single(), backend="cpu")
