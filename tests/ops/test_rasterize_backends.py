"""Kernel against reference, values and all gradients; gradcheck of the reference; the same for gsplat on a GPU."""

import pytest
import torch

from emotalking.ops.rasterize import rasterize

SHAPES = [
    pytest.param((), 3, 1, id="plain"),
    pytest.param((), 1, 2, id="two cameras"),
    pytest.param((2,), 5, 1, id="batch"),
    pytest.param((2, 1), 8, 2, id="two batch axes"),
    pytest.param((), 16, 1, id="full pass"),
    pytest.param((), 19, 1, id="two passes"),
]


def with_extras(scene: dict) -> dict:
    """The scene with a background and a probe."""
    channels, count = scene["features"].shape[-1], scene["means"].shape[-2]
    background = torch.linspace(0, 1, channels).to(scene["means"])
    probe = scene["means"].new_zeros(*scene["viewmats"].shape[:-2], count, 2)
    return {**scene, "background": background, "means2d_probe": probe}


def assert_same(actual: dict, expected: dict, tolerance: float) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        if name == "radii":  # rounded up to whole pixels: rounding of the last bit may move it by one
            assert torch.equal(actual[name] > 0, value > 0) and (actual[name] - value).abs().max() <= 1
            continue
        error = (actual[name] - value).abs().max() / value.abs().max().clamp(min=1e-12)
        assert error < tolerance, f"{name}: relative error {error:.1e}"


@pytest.mark.parametrize("batch, channels, cameras", SHAPES)
@pytest.mark.parametrize("size", [(53, 37), (16, 16)])
def test_cpu_kernel_equals_float64_reference(random_scene, gradients, batch, channels, cameras, size) -> None:
    arguments = {"batch": batch, "channels": channels, "cameras": cameras, "width": size[0], "height": size[1]}
    kernel = gradients(with_extras(random_scene(**arguments)), "cpu")
    truth = gradients(with_extras(random_scene(**arguments, dtype=torch.float64)), "reference")
    assert_same(kernel, truth, 2e-5)  # measured: at most 4e-6


def test_cpu_kernel_equals_reference_for_opaque_crowds(random_scene, gradients) -> None:
    """Deep stacks: blending stops early, alphas clamp, and the prefix differences of the backward pass cancel most."""
    scene, truth = random_scene(count=300), random_scene(count=300, dtype=torch.float64)
    for s in (scene, truth):
        s["opacities"] = s["opacities"] * 0.05 + 0.949
        s["scales"] = s["scales"] * 3
        s["opacities"][::7] = 1.0
    assert_same(gradients(with_extras(scene), "cpu"), gradients(with_extras(truth), "reference"), 1e-3)


def test_beside_the_frustum_the_jacobian_is_clamped_alike(random_scene, gradients) -> None:
    scenes = [random_scene(count=150, dtype=dtype) for dtype in (torch.float32, torch.float64)]
    for scene in scenes:
        scene["means"] = scene["means"] * 5 + scene["means"].new_tensor([0, 0, 0.5])
        scene["scales"] = scene["scales"] * 6
    assert_same(gradients(with_extras(scenes[0]), "cpu"), gradients(with_extras(scenes[1]), "reference"), 1e-3)


def test_one_thread_equals_many(random_scene, gradients) -> None:
    scene, threads = with_extras(random_scene()), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = gradients(scene, "cpu")
        torch.set_num_threads(5)
        many = gradients(scene, "cpu")
    finally:
        torch.set_num_threads(threads)
    assert_same(many, one, 1e-5)  # only the order of the sums over tiles differs


@pytest.mark.parametrize("output", ["features", "alpha", "depth"])
def test_outputs_that_nothing_learns_from(random_scene, output) -> None:
    grads = {}
    for backend, dtype in (("cpu", torch.float32), ("reference", torch.float64)):
        scene = random_scene(dtype=dtype)
        leaves = [scene[name].requires_grad_() for name in ("means", "quats", "scales", "opacities", "features")]
        value = getattr(rasterize(**scene, backend=backend), output)
        slopes = torch.linspace(-1, 1, value.numel(), dtype=dtype).reshape(value.shape)
        made = torch.autograd.grad(value, leaves, slopes, allow_unused=True, materialize_grads=True)
        grads[backend] = dict(enumerate(made))
    assert_same(grads["cpu"], grads["reference"], 2e-5)


def test_graph_can_be_walked_twice(random_scene) -> None:
    scene = random_scene(count=20)
    means = scene["means"].requires_grad_()
    out = rasterize(**scene, backend="cpu")
    first, second = (torch.autograd.grad(out.alpha.sum(), means, retain_graph=True)[0] for _ in range(2))
    torch.testing.assert_close(first, second)


def test_gradcheck_of_the_reference(random_scene) -> None:
    scene = random_scene(count=3, width=5, height=4, dtype=torch.float64)
    scene["Ks"][..., 0, 0], scene["Ks"][..., 1, 1] = 8.0, 7.0
    scene["scales"] = scene["scales"] * 8  # wide: no pixel close to the 1/255 cut, where the function jumps
    scene["opacities"] = scene["opacities"] * 0.3 + 0.4
    names = ("means", "quats", "scales", "opacities", "features", "viewmats", "Ks")
    leaves = [scene[name].requires_grad_() for name in names]
    background = torch.rand(3, dtype=torch.float64, requires_grad=True)
    probe = torch.zeros(1, 3, 2, dtype=torch.float64, requires_grad=True)

    def render(*values):
        scene.update(zip((*names, "background", "means2d_probe"), values, strict=True))
        out = rasterize(**scene, backend="reference", validate=False)
        return out.features, out.alpha, out.depth

    assert torch.autograd.gradcheck(
        render, (*leaves, background, probe), eps=1e-7, atol=1e-5, rtol=1e-4, fast_mode=True
    )


@pytest.mark.parametrize("num_detached", [1, 3])
def test_detached_channels_teach_nothing_but_themselves(random_scene, gradients, num_detached) -> None:
    scenes = [with_extras(random_scene(channels=5, dtype=dtype)) for dtype in (torch.float32, torch.float64)]
    kernel, truth = (
        gradients({**scene, "num_detached": num_detached}, back)
        for scene, back in zip(scenes, ("cpu", "reference"), strict=True)
    )
    assert_same(kernel, truth, 2e-5)
    free = gradients({**scenes[1], "features": scenes[1]["features"].clone()}, "reference")
    assert torch.allclose(free["features"], truth["features"]) and not torch.allclose(free["d_means"], truth["d_means"])
    dull = {**scenes[1], "features": scenes[1]["features"].clone(), "background": scenes[1]["background"].clone()}
    dull["features"][:, -num_detached:], dull["background"][-num_detached:] = 0.0, 0.0
    black = gradients({**dull, "num_detached": num_detached}, "reference")
    assert all(torch.allclose(black[f"d_{name}"], truth[f"d_{name}"]) for name in ("means", "opacities", "scales"))


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["cuda", "gsplat"])
@pytest.mark.parametrize("num_detached", [0, 1])
@pytest.mark.parametrize("batch, channels, cameras", SHAPES)
def test_gpu_kernels_equal_float64_reference(
    random_scene, gradients, batch, channels, cameras, num_detached, backend
) -> None:
    if backend == "gsplat":
        pytest.importorskip("gsplat")
    if num_detached == channels:
        pytest.skip("nothing would be left")
    arguments = {"batch": batch, "channels": channels, "cameras": cameras}
    kernel = gradients({**with_extras(random_scene(**arguments, device="cuda")), "num_detached": num_detached}, backend)
    truth = gradients(
        {**with_extras(random_scene(**arguments, dtype=torch.float64)), "num_detached": num_detached}, "reference"
    )
    assert_same(kernel, truth, 2e-4)  # gsplat is built with fast maths: exp to about 1e-6


@pytest.mark.gpu
@pytest.mark.parametrize("count", [0, 1])
def test_gsplat_with_nothing_to_see(random_scene, count) -> None:
    pytest.importorskip("gsplat")
    scene = with_extras(random_scene(count=count, device="cuda"))
    scene["means"] = (scene["means"] - torch.tensor([0, 0, 9.0], device="cuda")).requires_grad_()
    out = rasterize(**scene, backend="gsplat")
    assert out.backend == "gsplat"
    assert torch.equal(out.features, scene["background"].expand_as(out.features))
    assert not out.alpha.any() and not out.depth.any() and not out.radii.any()
    out.features.sum().backward()
    assert scene["means"].grad is None or not scene["means"].grad.any()
