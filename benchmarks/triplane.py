"""Speed of the tri-plane encoder's kernel, against torch's gathers with autograd in the same run.

python benchmarks/triplane.py [--count 40000] [--repeats 20] [--threads N]
"""

from typing import Any

import torch
from _report import arguments, line, measure, ratio, write

from emotalking.ops.triplane import FACE_TRIPLANE, MOUTH_TRIPLANE, TriplaneSpec, encode, entries_per_plane, num_features


def time_backend(spec: TriplaneSpec, backend: str, count: int, repeats: int) -> dict[str, dict[str, float]]:
    """Forward without gradients, and forward plus backward to points and table."""
    rng = torch.Generator().manual_seed(0)
    points = ((torch.rand(count, 3, generator=rng) - 0.5) * 2 * spec.bound).requires_grad_()
    table = (torch.randn(3, entries_per_plane(spec), generator=rng) * 1e-2).requires_grad_()
    grad = torch.randn(count, num_features(spec), generator=rng)

    def forward() -> None:
        with torch.no_grad():
            encode(points, table, spec, backend=backend)

    def both() -> None:
        encode(points, table, spec, backend=backend).backward(grad)

    return {"forward": measure(forward, repeats), "forward_backward": measure(both, repeats)}


def main() -> None:
    options = arguments(__doc__)

    results: dict[str, Any] = {"arguments": vars(options)}
    for preset, spec in (("face", FACE_TRIPLANE), ("mouth", MOUTH_TRIPLANE)):
        timings = {name: time_backend(spec, name, options.count, options.repeats) for name in ("reference", "cpu")}
        for backend, parts in timings.items():
            for name, timing in parts.items():
                print(line(f"{preset} {backend} {name}", timing))
        speedup = {name: ratio(timings["reference"][name], timings["cpu"][name]) for name in timings["cpu"]}
        for name, value in speedup.items():
            print(f"{preset}: the kernel is {value:.1f} times faster than torch: {name}")
        results[preset] = {**timings, "speedup": speedup}
    print(write("triplane", results))


if __name__ == "__main__":
    main()
