"""Layers over what is behind them: kernel against the differentiable operation."""

import pytest
import torch
from jaxtyping import TypeCheckError

from emotalking.ops.compose import COMPOSE, compose, lay_over
from emotalking.ops.reference import compose as reference


def layers(frames: int, height: int, width: int, mouth_box: tuple[int, int, int, int]) -> tuple[torch.Tensor, ...]:
    """Face, mouth with content in ``mouth_box`` (top, left, bottom, right) alone, background."""
    rng = torch.Generator().manual_seed(0)
    face, mouth = torch.rand(2, frames, height, width, 4, generator=rng)
    face = face * (torch.rand(frames, height, width, 1, generator=rng) > 0.5)
    face[:, : height // 3] = 0  # where the background is all there is
    face[..., :3] *= 1.2  # colours are not clipped
    top, left, bottom, right = mouth_box
    inside = torch.zeros_like(mouth)
    inside[:, top:bottom, left:right] = mouth[:, top:bottom, left:right]
    return face, inside, torch.rand(frames, height, width, 3, generator=rng)


@pytest.mark.parametrize(
    ("height", "width", "box", "frame_height"),
    [
        (70, 53, (20, 10, 31, 40), 70),
        (70, 53, (0, 0, 70, 53), 512),
        (64, 64, (60, 60, 64, 64), 200),
        (40, 32, (0, 0, 0, 0), 40),
        (33, 17, (5, 3, 6, 4), 512),
        (1, 1, (0, 0, 1, 1), 1),
    ],
)
def test_kernel_equals_the_operation(
    height: int, width: int, box: tuple[int, int, int, int], frame_height: int
) -> None:
    given = layers(2, height, width, box)
    rgb, alpha = compose(*given, frame_height=frame_height, backend="cpu")
    exact, coverage = reference.compose(*(each.double() for each in given), frame_height)
    torch.testing.assert_close(rgb.double(), exact, rtol=0, atol=2e-6)
    torch.testing.assert_close(alpha.double(), coverage, rtol=0, atol=1e-6)


def test_planes_and_interleaved_layers_give_the_same() -> None:
    face, mouth, behind = layers(1, 40, 48, (20, 10, 31, 40))
    as_drawn = [each.movedim(-1, 1).contiguous().movedim(1, -1) for each in (face, mouth)]
    for one, other in zip(
        compose(face, mouth, behind, frame_height=40, backend="cpu"),
        compose(*as_drawn, behind, frame_height=40, backend="cpu"),
        strict=True,
    ):
        assert torch.equal(one, other)


def test_choice_of_back_ends_and_refusals() -> None:
    face, mouth, behind = layers(1, 20, 20, (5, 5, 9, 9))
    compose(face, mouth, behind, frame_height=20)
    assert COMPOSE.last_run == "cpu"
    compose(face.double(), mouth.double(), behind.double(), frame_height=20)
    assert COMPOSE.last_run == "reference"
    for wrong in (behind[:, 1:], behind[:, :, 1:], torch.cat([behind, behind])):
        with pytest.raises((ValueError, TypeCheckError), match="background"):
            compose(face, mouth, wrong, frame_height=20)


@pytest.mark.parametrize(
    ("layers_shape", "plate_shape"),
    [
        ((7, 9), (7, 9)),
        ((3, 20, 17), (20, 17)),
        ((3, 20, 17), (3, 20, 17)),
        ((2, 3, 5, 4), (2, 1, 5, 4)),
        ((0, 4, 4), (4, 4)),
    ],
)
def test_layers_in_8_bit_over_plates(layers_shape: tuple[int, ...], plate_shape: tuple[int, ...]) -> None:
    rng = torch.Generator().manual_seed(0)
    torsos = torch.randint(0, 256, (*layers_shape, 4), generator=rng, dtype=torch.uint8)
    torsos[..., 0, :, 3], torsos[..., 1, :, 3] = 0, 255
    plate = torch.rand(*plate_shape, 3, generator=rng)
    laid = lay_over(torsos, plate, backend="cpu")
    assert laid.shape == (*layers_shape, 3)
    torch.testing.assert_close(laid.double(), lay_over(torsos, plate.double()), rtol=0, atol=1e-6)
    assert torch.equal(laid[..., 0, :, :], plate.expand_as(laid)[..., 0, :, :])
    with pytest.raises((ValueError, TypeCheckError), match="plate"):
        lay_over(torsos, plate[..., 1:, :])
