"""Speed of the rasterizer's back ends, against the reference in the same run.

    python benchmarks/rasterize.py [--count 40000] [--size 512] [--channels 3] [--repeats 20] [--threads N]
        [--device cpu|cuda]

The scene is a cloud of Gaussians that fills the middle of the image; its mean screen radius is in the report.
"""

from typing import Any

import torch
from _report import arguments, line, measure, ratio, write

from emotalking.ops.rasterize import rasterize

INPUTS = ("means", "quats", "scales", "opacities", "features")


def head_sized_cloud(count: int, channels: int, size: int, device: str) -> dict[str, Any]:
    """Gaussians of mixed shape in a box of a head's size, 0.7 in front of the camera."""
    rng = torch.Generator().manual_seed(0)
    focal = 1200.0 * size / 512
    viewmats = torch.eye(4)[None].clone()
    viewmats[..., 2, 3] = 0.7
    scene = {
        "means": (torch.rand(count, 3, generator=rng) - 0.5) * torch.tensor([0.3, 0.3, 0.2]),
        "quats": torch.randn(count, 4, generator=rng),
        "scales": torch.exp(torch.randn(count, 3, generator=rng) * 0.4) * 1.4e-3,
        "opacities": torch.rand(count, generator=rng) * 0.98 + 0.01,
        "features": torch.rand(count, channels, generator=rng),
        "viewmats": viewmats,
        "Ks": torch.tensor([[[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]]]),
    }
    return {**{name: value.to(device) for name, value in scene.items()}, "width": size, "height": size}


def time_backend(scene: dict[str, Any], backend: str, repeats: int) -> dict[str, dict[str, float]]:
    """Forward without gradients, and forward plus backward."""
    leaves = {name: scene[name].clone().requires_grad_() for name in INPUTS}
    shape = (1, scene["height"], scene["width"], leaves["features"].shape[-1])
    grad = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(leaves["means"])

    def forward() -> None:
        with torch.no_grad():
            rasterize(**{**scene, **leaves}, backend=backend, validate=False)

    def both() -> None:
        rasterize(**{**scene, **leaves}, backend=backend, validate=False).features.backward(grad)

    warmup = 1 if backend == "reference" else 3
    return {"forward": measure(forward, repeats, warmup), "forward_backward": measure(both, repeats, warmup)}


def main() -> None:
    options = arguments(__doc__)

    scene = head_sized_cloud(options.count, options.channels, options.size, options.device)
    fast = "gsplat" if options.device == "cuda" else "cpu"
    with torch.no_grad():
        radii = rasterize(**scene, backend=fast).radii
    seen = radii[radii > 0]
    results: dict[str, Any] = {
        "arguments": vars(options),
        "visible": seen.numel(),
        "mean_radius_px": seen.float().mean().item() if seen.numel() else 0.0,
    }
    print(f"{seen.numel()} visible Gaussians, mean radius {results['mean_radius_px']:.1f} px")
    for backend, repeats in (("reference", min(3, options.repeats)), (fast, options.repeats)):
        results[backend] = time_backend(scene, backend, repeats)
        for name, timing in results[backend].items():
            print(line(f"{backend} {name}", timing))
    results["speedup"] = {n: ratio(results["reference"][n], results[fast][n]) for n in results[fast]}
    for name, value in results["speedup"].items():
        print(f"{fast} is {value:.0f} times faster than the reference: {name}")
    print(write("rasterize" if options.device == "cpu" else "rasterize_cuda", results))


if __name__ == "__main__":
    main()
