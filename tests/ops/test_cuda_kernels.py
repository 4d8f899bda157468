"""The CUDA kernels against the float64 references, values and gradients: on a GPU, and emulated where there is none."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from emotalking.ops import adam, normals, sh, similarity, triplane
from emotalking.ops import rasterize as raster
from emotalking.ops.cuda import adam as cuda_adam
from emotalking.ops.cuda import rasterize as cuda_rasterize
from emotalking.ops.cuda import shade as cuda_shade
from emotalking.ops.cuda import similarity as cuda_similarity
from emotalking.ops.cuda import triplane as cuda_triplane
from emotalking.ops.geometry import to_matrix


def agree(ours: list[Tensor], theirs: list[Tensor], tolerance: float) -> None:
    for mine, truth in zip(ours, theirs, strict=True):
        error = (mine.detach().cpu().double() - truth.detach()).abs().max() / truth.abs().max().clamp(min=1)
        assert error < tolerance, f"{tuple(truth.shape)}: {float(error):.1e}"


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).float().double()


def both(run: Callable[[bool, Callable[[Tensor], Tensor]], list[Tensor]], device: str, tolerance: float) -> None:
    """``run(fast, place)`` by the kernel and by the reference, compared."""
    kernel = run(True, lambda value: value.float().to(device) if value.is_floating_point() else value.to(device))
    agree(kernel, run(False, lambda value: value.clone()), tolerance)


def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the back end that is asked for, whatever the device: emulated kernels run on the CPU."""
    operation = raster.RASTERIZE
    monkeypatch.setattr(operation, "choose", lambda wanted, *_, **__: operation.backends[wanted])


@pytest.mark.parametrize("channels, cameras, num_detached", [(3, 1, 0), (5, 2, 2)])
@pytest.mark.parametrize("count", [120, 1500])
def test_rasterizer(
    random_scene, gradients, monkeypatch, kernels_on: str, channels: int, cameras: int, num_detached: int, count: int
) -> None:
    """1,500 Gaussians are more than one look at the boxes takes in."""
    if count == 1500 and channels != 3:
        pytest.skip("once is enough")
    unchecked(monkeypatch)
    shape = {"channels": channels, "cameras": cameras, "count": count, "batch": (2,) if num_detached else ()}
    scenes = []
    for at, dtype in ((kernels_on, torch.float32), ("cpu", torch.float64)):
        scene = {**random_scene(**shape, dtype=dtype, device=at), "num_detached": num_detached}
        scene["background"] = torch.linspace(0, 1, channels).to(scene["means"])
        scene["means2d_probe"] = scene["means"].new_zeros(*scene["viewmats"].shape[:-2], count, 2)
        if count == 1500:
            scene["opacities"] = scene["opacities"] * 0.1 + 0.01
        scenes.append(scene)
    ours, truth = gradients(scenes[0], "cuda"), gradients(scenes[1], "reference")
    assert torch.equal(ours.pop("radii") > 0, truth.pop("radii") > 0)
    for name, value in truth.items():
        assert (ours[name] - value).abs().max() < 5e-5 * value.abs().max(), name  # measured: at most 5e-6


@pytest.mark.parametrize(
    "of, channels, num_detached",
    [
        (("features",), 3, 0),
        (("features", "alpha"), 5, 2),
        (("alpha",), 3, 0),
        (("depth",), 3, 0),
        (("features", "alpha"), 16, 2),
        (("features",), 30, 0),
    ],
)
def test_rasterizer_where_losses_look_at_some_outputs(
    random_scene, gradients, monkeypatch, kernels_on: str, of: tuple[str, ...], channels: int, num_detached: int
) -> None:
    """As training does (no depth, no background), and with more channels than one pass carries."""
    unchecked(monkeypatch)
    scenes = [
        {**random_scene(count=90, channels=channels, device=at, dtype=dtype), "num_detached": num_detached}
        for at, dtype in ((kernels_on, torch.float32), ("cpu", torch.float64))
    ]
    ours, truth = gradients(scenes[0], "cuda", of=of), gradients(scenes[1], "reference", of=of)
    for name, value in truth.items():
        if name != "radii" and name in ours:
            assert (ours[name] - value).abs().max() <= 5e-5 * value.abs().max(), name
    missing = truth.keys() - ours.keys()
    assert all(not truth[name].any() for name in missing), missing


def test_rasterizer_of_opaque_crowds(random_scene, gradients, monkeypatch, kernels_on: str) -> None:
    """Blending stops early, alphas clamp, and the prefix differences of the backward pass cancel most."""
    unchecked(monkeypatch)
    scenes = [random_scene(count=300, device=kernels_on), random_scene(count=300, dtype=torch.float64)]
    for scene in scenes:
        scene["opacities"], scene["scales"] = scene["opacities"] * 0.05 + 0.949, scene["scales"] * 3
        scene["opacities"][::7] = 1.0
    ours, truth = gradients(scenes[0], "cuda"), gradients(scenes[1], "reference")
    for name, value in truth.items():
        assert (ours[name] - value).abs().max() < 1e-3 * value.abs().max(), name


@pytest.mark.parametrize("count", [0, 1])
def test_rasterizer_with_nothing_to_see(random_scene, kernels_on: str, count: int) -> None:
    scene, behind = random_scene(count=count, device=kernels_on), torch.rand(3, device=kernels_on)
    means = (scene["means"] - torch.tensor([0, 0, 9.0], device=kernels_on)).requires_grad_()
    parts = (means, *(scene[name] for name in ("quats", "scales", "opacities", "features", "viewmats", "Ks")))
    image, alpha, depth, radii = cuda_rasterize.rasterize(
        *(part[None] for part in parts), scene["width"], scene["height"], behind, None, 0.01, 0
    )
    assert torch.equal(image, behind.expand_as(image)) and not alpha.any() and not depth.any() and not radii.any()
    image.sum().backward()
    assert means.grad is None or not means.grad.any()


def test_rasterizer_knows_its_limit() -> None:
    nothing = torch.zeros(1, 1, 3)
    with pytest.raises(ValueError, match="4080"):
        cuda_rasterize.rasterize(
            nothing, torch.zeros(1, 1, 4), nothing, torch.zeros(1, 1), nothing, torch.eye(4)[None, None],
            torch.eye(3)[None, None], 5000, 10, None, None, 0.01, 0,
        )  # fmt: skip


@pytest.mark.parametrize(
    "spec",
    [triplane.FACE_TRIPLANE, triplane.MOUTH_TRIPLANE, triplane.TriplaneSpec(levels=3, base=3.0, finest=5.5, bound=0.5)],
)
@pytest.mark.parametrize("count", [1, 400])
def test_triplane(kernels_on: str, spec: triplane.TriplaneSpec, count: int) -> None:
    points, table = draw(count, 3) * spec.bound, draw(3, triplane.entries_per_plane(spec), seed=1)
    grad = draw(count, triplane.num_features(spec), seed=2)

    def run(fast: bool, place: Callable[[Tensor], Tensor]) -> list[Tensor]:
        p, t = place(points).requires_grad_(), place(table).requires_grad_()
        shape = (spec.scales, spec.strides, spec.offsets, spec.bound)
        features = cuda_triplane.encode(p, t, *shape) if fast else triplane.encode(p, t, spec, backend="reference")
        features.backward(place(grad))
        assert p.grad is not None and t.grad is not None
        return [features, p.grad, t.grad]

    both(run, kernels_on, 5e-5)


@pytest.mark.parametrize("size", [(53, 37), (16, 16), (70, 40)])
def test_similarity_in_boxes(kernels_on: str, size: tuple[int, int]) -> None:
    height, width = size
    image, target = draw(height, width, 3).abs().clamp(max=1), draw(height, width, 3, seed=1).abs().clamp(max=1)
    corners = [[0, 0, height, width], [3, 5, 20, 33], [-4, -3, 7, 9], [9, 3, 9, 8], [height - 5, 2, height + 9, 40]]
    boxes, grad = torch.tensor(corners, dtype=torch.int32), draw(5, 2, seed=2)

    def run(fast: bool, place: Callable[[Tensor], Tensor]) -> list[Tensor]:
        x = place(image).requires_grad_()
        compare = cuda_similarity.compare_in_boxes if fast else similarity.compare_in_boxes
        values = compare(x, place(target), place(boxes))
        values.backward(place(grad))
        assert x.grad is not None
        return [values, x.grad]

    both(run, kernels_on, 2e-5)


def test_empty_box_differs_in_nothing() -> None:
    image, boxes = torch.rand(9, 9, 3), torch.tensor([[4, 0, 4, 9], [8, 0, 2, 9]], dtype=torch.int32)
    assert similarity.compare_in_boxes(image, 1.0 - image, boxes).tolist() == [[0.0, 1.0], [0.0, 1.0]]


def test_adam(kernels_on: str) -> None:
    """More tensors than one launch takes, of all sizes, with and without decay, against PyTorch's own optimizers."""
    shapes = [(3,), (1,), (1025,), (40, 3), *((n, 2) for n in range(1, 50))]

    def run(how: str, place: Callable[[Tensor], Tensor]) -> list[Tensor]:
        values = [place(draw(*shape, seed=n)).requires_grad_() for n, shape in enumerate(shapes)]
        groups = [{"params": values[:2], "lr": 0.01}, {"params": values[2:3], "lr": 0.3}]
        optimizers = [torch.optim.Adam(groups, eps=1e-15), torch.optim.AdamW(values[3:], betas=(0.9, 0.99), lr=0.02)]
        for step in range(4):
            for n, value in enumerate(values):
                value.grad = place(draw(*shapes[n], seed=100 + 10 * n + step)) if n != 1 or step == 0 else None
            if how == "torch" or step == 0:
                for optimizer in optimizers:
                    optimizer.step()
                continue
            for optimizer in optimizers:
                for state in optimizer.state.values():
                    state["step"] = state["step"].to(values[0])
            rates = [group["lr"] for each in optimizers for group in each.param_groups]
            parts = adam.parts_of(optimizers, place(torch.tensor(rates, dtype=torch.float64)))
            assert len(parts) == len(shapes) - 1
            with torch.no_grad():
                cuda_adam.update(parts) if how == "cuda" else adam.update(parts, backend=how)
        remembered = [state for each in optimizers for state in each.state.values()]
        assert all(int(state["step"]) == (1 if n == 1 else 4) for n, state in enumerate(remembered))
        return [*values, *(state[name] for state in remembered for name in ("exp_avg", "exp_avg_sq"))]

    truth = run("torch", lambda value: value.clone())
    agree(run("reference", lambda value: value.clone()), truth, 1e-12)
    agree(run("cuda", lambda value: value.float().to(kernels_on)), truth, 2e-6)


def test_adam_knows_its_limits() -> None:
    value = torch.ones(2, requires_grad=True)
    for optimizer in (torch.optim.SGD([value]), torch.optim.Adam([value], weight_decay=0.1)):
        optimizer.param_groups[0].setdefault("amsgrad", False)
        optimizer.param_groups[0].setdefault("decoupled_weight_decay", False)
        with pytest.raises(ValueError, match="Adam"):
            adam.parts_of([optimizer], torch.ones(1))


@pytest.mark.parametrize("frames, degree, bands", [(1, 2, 2), (2, 1, 2), (3, 0, 2), (1, 0, 0)])
def test_colours_and_normals(kernels_on: str, frames: int, degree: int, bands: int) -> None:
    rest = (bands + 1) ** 2 - 1
    inputs = [draw(70, 1, 3), draw(70, rest, 3, seed=1), draw(frames, 70, 4, seed=2), draw(70, 3, seed=3) * 0.3]
    means, centres, scales = draw(frames, 70, 3, seed=4), draw(frames, 3, seed=5) * 3, draw(frames, 70, 3, seed=6).exp()
    views = torch.eye(4, dtype=torch.float64).repeat(frames, 1, 1)
    views[:, :3, :3], views[:, :3, 3] = to_matrix(draw(frames, 4, seed=7)), draw(frames, 3, seed=8)
    grad = draw(frames, 70, 3, seed=9)

    def run(fast: bool, place: Callable[[Tensor], Tensor]) -> list[Tensor]:
        sh0, sh_rest, quats, residuals = leaves = [place(value).requires_grad_() for value in inputs]
        where, seen, size, view = (place(value) for value in (means, centres, scales, views))
        colour = cuda_shade.view_colours if fast else sh.view_colours
        turned = cuda_shade.camera_normals if fast else normals.camera_normals
        colours = colour(sh0, sh_rest, where, seen, degree)
        facing = turned(quats, size, where, view, residuals)
        ((colours + facing) * place(grad)).sum().backward()
        found = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
        return [colours, facing, *(each for each in found if each.numel())]

    both(run, kernels_on, 2e-5)
