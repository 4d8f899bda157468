"""The wheel's CPU kernels against the same sources compiled on this machine: values, and speed in the same run.

    python benchmarks/kernels.py [--repeats 20] [--size 512] [--threads N]

Needs an installed wheel and a C++ compiler. Every library of the wheel that the processor can run is measured; the
libraries take turns, so that other work on the machine slows all alike.
"""

import ctypes
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from _report import arguments, write
from rasterize import INPUTS, head_sized_cloud

from emotalking.ops.cpu import build, rasterize, ssim, toolchain, triplane
from emotalking.ops.rasterize import rasterize as render
from emotalking.ops.similarity import ssim as similarity
from emotalking.ops.triplane import FACE_TRIPLANE, encode, entries_per_plane

Outcome = list[torch.Tensor]
Load = Callable[[str], ctypes.CDLL]


def works(size: int) -> dict[str, Callable[[], Outcome]]:
    """Operations with their gradients, at a head's sizes, by name."""
    rng = torch.Generator().manual_seed(0)
    scene = head_sized_cloud(40_000, 3, size, "cpu")
    leaves = [scene[name].requires_grad_() for name in INPUTS]
    points = ((torch.rand(40_000, 3, generator=rng) - 0.5) * 2 * FACE_TRIPLANE.bound).requires_grad_()
    table = (torch.randn(3, entries_per_plane(FACE_TRIPLANE), generator=rng) * 1e-2).requires_grad_()
    first, second = (torch.rand(size, size, 3, generator=rng) for _ in range(2))
    first.requires_grad_()

    def with_gradients(run: Callable[[], torch.Tensor], *inputs: torch.Tensor) -> Callable[[], Outcome]:
        def both() -> Outcome:
            out = run()
            return [out.detach(), *torch.autograd.grad(out.square().sum(), inputs)]

        return both

    return {
        "rasterize": with_gradients(lambda: render(**scene, backend="cpu", validate=False).features, *leaves),
        "triplane": with_gradients(lambda: encode(points, table, FACE_TRIPLANE, backend="cpu"), points, table),
        "ssim": with_gradients(lambda: similarity(first, second, backend="cpu"), first),
    }


def loaders() -> dict[str, Load]:
    """Ways to load a kernel's source by name; the first is the baseline."""
    found: dict[str, Load] = {"compiled here": lambda source: build._compile(source, build._compiler())}
    for level in build._LEVELS.get(torch.backends.cpu.get_cpu_capability(), ("base",)):
        for path in toolchain.BUILT.glob(f"{toolchain.library_name(level)}.*"):
            library = ctypes.CDLL(str(path))
            found[f"wheel {level}"] = lambda _, library=library: library
    if len(found) == 1:
        raise SystemExit("no libraries found: run this in an environment with the wheel installed")
    return found


def use(load: Load) -> None:
    """Make all operations run the kernels that ``load`` gives."""
    build.load_library = rasterize.load_library = load
    for module in (rasterize, triplane, ssim):
        module.library.cache_clear()


def main() -> None:
    options = arguments(__doc__)
    results: dict[str, Any] = {"arguments": vars(options)}
    for name, work in works(options.size).items():
        outcomes: dict[str, Outcome] = {}
        seconds: dict[str, list[float]] = {}
        for repeat in range(options.repeats + 1):  # the first warms up
            for way, load in loaders().items():
                use(load)
                start = time.perf_counter()
                outcomes[way] = work()
                seconds.setdefault(way, []).extend([time.perf_counter() - start] if repeat else [])
        (baseline, expected), *_ = outcomes.items()
        results[name] = {}
        for way, outcome in outcomes.items():
            row = {
                "median_ms": statistics.median(seconds[way]) * 1e3,
                "best_ms": min(seconds[way]) * 1e3,
                "slower_than_compiled_here": min(seconds[way]) / min(seconds[baseline]),
                # Of a Gaussian at the edge of the cut at 1/255 one library draws a pixel that the other leaves out.
                "relative_difference": max(
                    ((a - b).norm() / b.norm()).item() for a, b in zip(outcome, expected, strict=True)
                ),
            }
            results[name][way] = row
            print(f"{name:<10} {way:<14}", *(f"{key} {value:.3g}" for key, value in row.items()))
    print(write("kernels", results))


if __name__ == "__main__":
    main()
