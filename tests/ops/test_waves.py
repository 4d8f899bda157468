"""Waves as strong as images hide them: kernels against torch's operations."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from emotalking.ops.cuda import waves as cuda
from emotalking.ops.waves import ADD_WAVES, Hiding, add_waves

HIDING = Hiding(
    cell=8,
    clip=16,
    growth=(0.9, 0.4),
    cost=(0.05, 0.12),
    distance=(0.002, 0.0005),
    strongest=(2.0, 0.5),
    smooth=(0.1, 0.6),
    down=(0.38, 0.25),
    across=(0.5, 0.2),
    fall=1.8,
    faint=0.7,
    dark=6.0,
    bright=249.0,
    fade=16.0,
    more=1.0,
)
Given = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def given(count: int, height: int, width: int, channels: int) -> Given:
    """Images with smooth, rough, black and white parts; waves that are noise; factors of both signs."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, height, width, channels), dtype=np.uint8)
    for image in images:
        image[: height // 2] = cv2.GaussianBlur(image, (0, 0), 3.0)[: height // 2]
        image[:, : width // 5], image[:, : width // 9] = 255, 0
    factors = torch.linspace(1, -0.4, count)
    return torch.from_numpy(images), torch.from_numpy(rng.normal(0, 2, (2, height, width)).astype(np.float32)), factors


def check(made: torch.Tensor, inputs: Given, hiding: Hiding) -> None:
    expected = add_waves(*inputs, hiding, backend="reference")
    # Sums within single precision of a half are rounded either way.
    different = (made.int() - expected.int()).abs()
    assert different.sum() <= 3 + 1e-5 * expected.numel() and different.max() <= 1
    assert (made[..., 3:] == inputs[0][..., 3:]).all()
    assert (expected[..., :3] != inputs[0][..., :3]).float().mean() > 0.1


SIZES = [((1, 32, 48, 3), 8), ((3, 21, 33, 4), 5), ((2, 9, 40, 3), 2), ((1, 40, 33, 4), 64)]


@pytest.mark.parametrize(("shape", "cell"), [*SIZES, ((1, 301, 500, 3), 9)])
@pytest.mark.parametrize("threads", [1, 2])
def test_cpu_kernel(shape: tuple[int, int, int, int], cell: int, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        inputs, hiding = given(*shape), replace(HIDING, cell=cell)
        check(add_waves(*inputs, hiding, backend="cpu"), inputs, hiding)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("shape", "cell"), SIZES)
def test_cuda_kernels(kernels_on: str, shape: tuple[int, int, int, int], cell: int) -> None:
    hiding, inputs = replace(HIDING, cell=cell), given(*shape)
    images, waves, factors = (each.to(kernels_on) for each in inputs)
    check(cuda.add_waves(images, waves, factors, hiding).cpu(), inputs, hiding)


def test_choice_of_back_ends_and_refusals() -> None:
    images, waves, factors = given(2, 30, 40, 3)
    add_waves(images, waves, factors, HIDING)
    assert ADD_WAVES.last_run == "cpu"
    assert add_waves(images[:0], waves, factors[:0], HIDING).shape == (0, 30, 40, 3)
    for wrong in ((images[:, 1:], waves, factors), (images, waves, factors[1:]), (images[..., :2], waves, factors)):
        with pytest.raises((ValueError, TypeCheckError), match="images"):
            add_waves(*wrong, HIDING)
