"""Random scenes for the rasterizer's tests."""

import ctypes
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from emotalking.ops.cuda import build
from emotalking.ops.reference.rasterize import project_gaussians
from emotalking.ops.splatting import MIN_ALPHA

Scene = dict[str, Any]


def build_scene(
    batch: tuple[int, ...] = (),
    count: int = 120,
    channels: int = 3,
    cameras: int = 1,
    width: int = 53,
    height: int = 37,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    seed: int = 0,
) -> Scene:
    """Gaussians around the origin, some out of sight, seen by cameras about 2 units away: arguments of `rasterize`."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*batch, *shape, generator=rng, dtype=torch.float64)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*batch, *shape, generator=rng, dtype=torch.float64)

    viewmats = torch.eye(4, dtype=torch.float64).repeat(*batch, cameras, 1, 1)
    viewmats[..., 2, 3] = 2
    viewmats[..., 0, 3] = torch.linspace(0, 0.2, cameras, dtype=torch.float64)
    Ks = torch.tensor([[60.0, 0, width / 2], [0, 55.0, height / 2], [0, 0, 1]], dtype=torch.float64)
    scene = {
        "means": normal(count, 3) * 0.3,
        "quats": normal(count, 4),
        "scales": uniform(count, 3) * 0.05 + 0.005,
        "opacities": uniform(count) * 0.98 + 0.01,
        "features": uniform(count, channels),
        "viewmats": viewmats,
        "Ks": Ks.repeat(*batch, cameras, 1, 1),
    }
    # float64 tests see exactly the numbers that float32 tests see.
    scene = {name: value.float().double() for name, value in scene.items()}
    _leave_threshold({**scene, "width": width, "height": height})
    return {**{name: value.to(device, dtype) for name, value in scene.items()}, "width": width, "height": height}


def _leave_threshold(scene: Scene) -> None:
    """Change opacities (in place) until no contribution lies within float32 rounding of the 1/255 cut.

    There the function jumps, and two correct back ends may fall on different sides.
    """
    if scene["means"].numel() == 0:
        return
    width, height, cameras = scene["width"], scene["height"], scene["viewmats"].shape[-3]
    xs, ys = torch.arange(width) + 0.5, torch.arange(height) + 0.5
    pixels = torch.cartesian_prod(xs, ys).double()
    flat = {n: scene[n].reshape(-1, *scene[n].shape[-2:]) for n in ("means", "quats", "scales")}
    opacities, viewmats = scene["opacities"].view(len(flat["means"]), -1), scene["viewmats"].reshape(-1, 4, 4)
    Ks = scene["Ks"].reshape(-1, 3, 3)
    for _ in range(20):
        risky = torch.zeros_like(opacities, dtype=torch.bool)
        for image in range(len(viewmats)):
            b = image // cameras
            gaussians = (flat["means"][b], flat["quats"][b], flat["scales"][b], opacities[b])
            seen = project_gaussians(*gaussians, viewmats[image], Ks[image], (height, width), 0.01)
            dx, dy = (pixels[:, None] - seen.means2d).unbind(-1)
            a, h, c = seen.conics.unbind(-1)
            alpha = opacities[b] * torch.exp(-0.5 * (a * dx * dx + c * dy * dy) - h * dx * dy)
            risky[b] |= ((alpha / MIN_ALPHA - 1).abs() < 2e-5).any(dim=0)
        if not risky.any():
            return
        opacities[risky] = (opacities[risky] * 0.99).float().double()
    raise AssertionError("no scene without contributions at the threshold was found")


@pytest.fixture
def random_scene() -> Callable[..., Scene]:
    return build_scene


LEAVES = ("means", "quats", "scales", "opacities", "features", "background", "means2d_probe")


def render_with_gradients(
    scene: Scene, backend: str, seed: int = 1, of: tuple[str, ...] = ("features", "alpha", "depth")
) -> dict[str, Tensor]:
    """Outputs, and the gradients of a random linear function of some of them, by name, in float64 on the CPU."""
    from emotalking.ops.rasterize import rasterize

    leaves = {name: scene[name].clone().requires_grad_() for name in LEAVES if name in scene}
    out = rasterize(**{**scene, **leaves}, backend=backend)
    rng = torch.Generator().manual_seed(seed)
    loss = sum(
        (part * torch.randn(part.shape, generator=rng, dtype=torch.float64).to(part)).sum()
        for part in (getattr(out, name) for name in of)
    )
    assert isinstance(loss, Tensor)
    loss.backward()
    results = {"features": out.features, "alpha": out.alpha, "depth": out.depth, "radii": out.radii}
    results |= {f"d_{name}": leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
    assert out.backend == backend
    return {name: value.detach().cpu().double() for name, value in results.items()}


@pytest.fixture
def gradients() -> Callable[..., dict[str, Tensor]]:
    return render_with_gradients


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., build.Launch]:
    """Stands for :func:`emotalking.ops.cuda.build.kernel` where there is no GPU (cuda_on_cpu.h)."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("needs g++")
    base, kernels = tmp_path_factory.getbasetemp(), Path(build.__file__).parent
    # Of all worker processes of a test run: each kernel is compiled once.
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "emulated"
    folder.mkdir(exist_ok=True)

    @cache
    def library(source: str, definitions: tuple[str, ...]) -> ctypes.CDLL:
        text = (kernels / source).read_text()
        names = re.findall(r'extern "C" __global__ void (?:__launch_bounds__\(\w+\)\s*)?(\w+)\(', text)
        built = folder / ("_".join((source, *definitions)) + ".so")
        if built.exists():
            return ctypes.CDLL(str(built))
        path = folder / f"{built.stem}_{os.getpid()}.cpp"
        path.write_text("\n".join(('#include "cuda_on_cpu.h"', text, *(f"EMULATED({name})" for name in names))))
        includes = [f"-I{at}" for at in (Path(__file__).parent, kernels, kernels.parent / "cpu")]
        flags = ["-O1", "-U_FORTIFY_SOURCE", "-std=c++20", "-shared", "-fPIC", "-w", *includes]
        flags += [f"-D{each}" for each in definitions]
        subprocess.run([compiler, *flags, str(path), "-o", str(path.with_suffix(".so"))], check=True)
        os.replace(path.with_suffix(".so"), built)
        return ctypes.CDLL(str(built))

    def kernel(source: str, name: str, definitions: tuple[str, ...], _: int) -> build.Launch:
        function = getattr(library(source, definitions), f"emulated_{name}")

        def launch(grid: tuple[int, int, int], block: int, *arguments: build.Argument) -> None:
            packed = [build._packed(argument) for argument in arguments]
            addresses = (ctypes.c_void_p * len(packed))(*(ctypes.addressof(value) for value in packed))
            function((ctypes.c_uint * 3)(*grid), block, addresses)

        return launch

    return kernel


@pytest.fixture(params=["emulated", pytest.param("cuda", marks=pytest.mark.gpu)])
def kernels_on(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The device on which the CUDA kernels are to run: a GPU, or, emulated, the CPU."""
    if request.param == "cuda":
        return "cuda"
    emulated = request.getfixturevalue("emulator")
    for name in ("rasterize", "triplane", "similarity", "shade", "adam", "motion", "splat", "compose", "waves"):
        monkeypatch.setattr(f"emotalking.ops.cuda.{name}.kernel", emulated)
    return "cpu"
