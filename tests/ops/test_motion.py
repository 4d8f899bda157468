"""Motion networks without gradient: kernel against reference, and sizes that it does not take."""

from dataclasses import replace

import pytest
import torch

from emotalking.ops.motion import MAX_WIDTH, MOTION, EmotionNetwork, FixedBranch, move
from emotalking.ops.reference import motion as reference
from emotalking.ops.triplane import TriplaneSpec, entries_per_plane

SPEC = TriplaneSpec(levels=3, base=3.0, finest=5.5, bound=0.5)


def branch(
    count: int,
    hidden: int = 64,
    keys: int = 38,
    emotion: tuple[int, int, int] | None = (16, 16, 64),
    share: bool = False,
) -> FixedBranch:
    """Random weights; some points lie outside the planes and some scales above the softplus' threshold."""
    rng = torch.Generator().manual_seed(count)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng) / max(shape[-1], 1) ** 0.5

    network = None
    if emotion is not None:
        inner, code, width = emotion
        network = EmotionNetwork(
            normal(3, entries_per_plane(SPEC)) * 10, SPEC, (normal(inner, 9), normal(code, inner)),
            normal(width, 9 + code), normal(width, width), normal(10, width),
        )  # fmt: skip
    gaussians = torch.randn(count, 10, generator=rng)
    gaussians[:, 7:] = gaussians[:, 7:] * 10 - 8
    gaussians[::7, 7:] += 30
    layers = normal(hidden, keys), normal(hidden, hidden), normal(10, hidden) * 0.1
    taken = torch.rand(count, generator=rng) if share else None
    return FixedBranch(
        gaussians * 0.3, torch.randn(count, hidden, generator=rng), torch.rand(count, keys, generator=rng), *layers,
        taken, network,
    )  # fmt: skip


def codes(of: FixedBranch, frames: int, emotional: bool) -> tuple[torch.Tensor, ...]:
    rng = torch.Generator().manual_seed(frames)
    bias = torch.randn(frames, of.hidden.shape[1], generator=rng)
    emotion = torch.randn(frames, of.emotion.attention[1].shape[0], generator=rng) if of.emotion and emotional else None
    return torch.randn(frames, of.attention.shape[1], generator=rng), bias, emotion


def in_double(of: FixedBranch) -> FixedBranch:
    def double(value: object) -> object:
        if isinstance(value, tuple):
            return tuple(map(double, value))
        return value.double() if isinstance(value, torch.Tensor) else value

    def all_of(each: EmotionNetwork | FixedBranch, **extra: object) -> dict[str, object]:
        return {name: double(value) for name, value in vars(each).items()} | extra

    network = None if of.emotion is None else EmotionNetwork(**all_of(of.emotion))
    return FixedBranch(**all_of(of, emotion=network, packed={}))


@pytest.mark.parametrize("count", [1, 31, 1000])
@pytest.mark.parametrize(
    ("options", "emotional"),
    [
        ({}, True),
        ({}, False),
        ({"emotion": None, "keys": 54}, False),
        ({"emotion": None, "keys": 0, "hidden": 32, "share": True}, False),
        ({"hidden": 37, "keys": 5, "emotion": (3, 5, 11)}, True),
        ({"hidden": MAX_WIDTH, "keys": MAX_WIDTH, "emotion": (16, 16, MAX_WIDTH)}, True),
    ],
)
def test_kernel_equals_reference(count: int, options: dict, emotional: bool) -> None:
    made = branch(count, **options)
    for frames in (1, 3):
        given = codes(made, frames, emotional)
        moved = move(made, *given, backend="cpu")
        exact = reference.move(in_double(made), *(None if each is None else each.double() for each in given))
        for actual, expected, width in zip(moved, exact, (3, 4, 3), strict=True):
            assert actual.shape == (frames, count, width) and actual.is_contiguous()
            # A scale of 1e-7 is as exact, in proportion, as one of 1.
            torch.testing.assert_close(actual.double(), expected, rtol=2e-5, atol=2e-5 if width != 3 else 2e-6)


def test_the_scales_are_exact_in_proportion() -> None:
    """Softplus from where it is an exponential to where it is the identity."""
    raw = torch.linspace(-60, 30, 901)
    still = replace(branch(901, emotion=None), third=torch.zeros(10, 64))
    still.gaussians[:, 7:] = raw[:, None]
    given = codes(still, 1, False)
    scales = move(still, *given, backend="cpu")[2][0]
    expected = torch.nn.functional.softplus(raw.double())[:, None].expand(-1, 3)
    torch.testing.assert_close(scales.double(), expected, rtol=4e-6, atol=0)


def test_nothing_moves_where_there_is_nothing() -> None:
    none = branch(0)
    assert [part.shape for part in move(none, *codes(none, 2, True))] == [(2, 0, 3), (2, 0, 4), (2, 0, 3)]


def test_no_gradient_and_the_choice_of_back_ends() -> None:
    made = branch(40)
    made.second.requires_grad_()
    assert not any(part.requires_grad for part in move(made, *codes(made, 1, True)))
    assert MOTION.last_run == "cpu"
    wide = branch(40, hidden=MAX_WIDTH + 1)
    move(wide, *codes(wide, 1, True))
    assert MOTION.last_run == "reference"
    with pytest.raises(ValueError, match="width"):
        move(wide, *codes(wide, 1, True), backend="cpu")


def test_wrong_arguments_are_named() -> None:
    made = branch(4, emotion=None)
    given, bias, _ = codes(made, 1, False)
    with pytest.raises(ValueError, match="codes: expected 38"):
        move(made, given[:, 1:], bias)
    with pytest.raises(ValueError, match="emotion_codes"):
        move(made, given, bias, torch.zeros(1, 16))
