"""Corrections of the training frames: values, gradients, what they find, and that they end with the training."""

from dataclasses import replace

import pytest
import torch

from emotalking.data import Subject
from emotalking.models.gaussians import Deformed, Gaussians
from emotalking.models.head import render_layer
from emotalking.ops.geometry import HEAD_RADIUS
from emotalking.train.config import CorrectionsConfig, OptimConfig
from emotalking.train.context import Context
from emotalking.train.corrections import MILLIMETRE, NUM_BASES, Corrections, polynomials
from emotalking.train.optim import gaussians_factor
from emotalking.train.stages.face import FaceStage
from emotalking.train.stages.finetune import FinetuneStage

from .small import context, small


def static(means: torch.Tensor) -> Deformed:
    return Gaussians(means, torch.rand(len(means), 3), 0).deform()


@pytest.mark.parametrize("degree", NUM_BASES)
def test_a_table_of_values(degree: int) -> None:
    x, y, z = (torch.tensor([[1.0, 2.0, 3.0]]) / HEAD_RADIUS)[0].tolist()
    by_hand = [1.0, x, y, z, x * x, x * y, x * z, y * y, y * z, z * z]
    found = polynomials(torch.tensor([[1.0, 2.0, 3.0]]), degree)[0]
    assert found.tolist() == pytest.approx(by_hand[: NUM_BASES[degree]], rel=1e-5)


def test_a_small_rotation_and_shift_are_of_degree_one() -> None:
    corrections = Corrections(3, CorrectionsConfig(rate=1.0))
    means, angle, shift = torch.randn(50, 3) * 0.05, torch.tensor([2e-3, -1e-3, 3e-3]), torch.tensor([1e-3, 0.0, -2e-3])
    wanted = means + torch.linalg.cross(angle.expand(50, 3), means) + shift
    rotation = torch.linalg.cross(angle.expand(3, 3), torch.eye(3)) * HEAD_RADIUS
    moved = corrections.apply(static(means), torch.cat([shift[None], rotation]) / MILLIMETRE)
    assert torch.allclose(moved.means[0], wanted, atol=1e-7)


@pytest.mark.parametrize("frame", [0, 3, torch.tensor([6])])
def test_a_frame_is_the_mean_of_its_window_and_teaches_it_alone(frame: int | torch.Tensor) -> None:
    corrections = Corrections(7, CorrectionsConfig(rate=1.0, window=3))
    with torch.no_grad():
        corrections.table.normal_()
    found, table, row = corrections.coefficients(frame), corrections.table.detach(), int(frame)
    before, after = max(0, row - 1), min(6, row + 1)
    wanted = 0.25 * table[before] + 0.5 * table[row] + 0.25 * table[after] - table.mean(0)
    assert torch.allclose(found, wanted, atol=1e-6)
    found.sum().backward()
    assert corrections.table.grad is not None
    touched = corrections.table.grad.abs().sum((1, 2)).nonzero().flatten().tolist()
    assert touched == sorted({before, row, after})


def test_the_mean_over_the_frames_stays_with_the_gaussians() -> None:
    corrections = Corrections(5, CorrectionsConfig(rate=1.0))
    with torch.no_grad():
        corrections.table.normal_(mean=4.0)
    every = torch.stack([corrections.coefficients(frame) for frame in range(5)])
    assert float(every.detach().mean(0).abs().max()) < 1e-5


def test_misplaced_frames_are_found_from_their_images() -> None:
    torch.manual_seed(0)
    means = torch.randn(150, 3) * torch.tensor([0.03, 0.03, 0.005])
    gaussians = Gaussians(means, torch.rand(150, 3), 0, torch.full((150,), 6e-3)).requires_grad_(False)
    gaussians.opacity_logits += 4.0
    view, K = torch.eye(4)[None].clone(), torch.tensor([[200.0, 0.0, 24.0], [0.0, 200.0, 24.0], [0.0, 0.0, 1.0]])
    view[0, 2, 3] = 0.5
    shifts = torch.tensor([[1.5, 0.0, 0.0], [-1.5, 1.0, 0.0], [0.0, -1.0, 0.0]])

    def image(moved: Deformed) -> torch.Tensor:
        return render_layer(gaussians, moved, view, K, (48, 48)).rgb

    targets = []
    for shift in shifts:
        moved = gaussians.deform()
        targets.append(image(replace(moved, means=moved.means + MILLIMETRE * shift)))
    corrections = Corrections(3, CorrectionsConfig(rate=0.05, degree=0))
    optimizer = corrections.optimizer()
    for step in range(120):
        moved = corrections.apply(gaussians.deform(), corrections.coefficients(step % 3))
        (image(moved) - targets[step % 3]).abs().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    found = torch.cat([corrections.coefficients(frame) for frame in range(3)]).detach()
    assert torch.allclose(found[:, :2], shifts[:, :2], atol=0.15), found


def made(subject: Subject, settings: list[str]) -> Context:
    return context(subject, small("corrections.rate=0.01", *settings, steps=20, warmup=2))


def test_the_face_stage_learns_those_of_its_frames(actor_subject: Subject) -> None:
    context = made(actor_subject, ["corrections.weight=0.1"])
    assert context.corrections is not None
    stage, frames = FaceStage(context), set()
    for iteration in range(5):
        stage.before_update(iteration)
        key, inputs = stage.inputs(iteration)
        terms = stage.terms(key, inputs.moved(context.device, gather=False))
        assert ("corrections" in terms) == key.moving == (iteration >= 2)
        torch.stack(list(terms.values())).sum().backward()
        frames |= {int(inputs.frame)} if key.moving else set()
        for optimizer in stage.optimizers.values():
            optimizer.step()
            optimizer.zero_grad()
    learned = context.corrections.table.detach().abs().sum((1, 2)).nonzero().flatten().tolist()
    assert learned == sorted(frames)
    assert not any("corrections" in name for name in context.head.state_dict())


def test_fine_tuning_sees_a_frame_where_its_correction_puts_it(actor_subject: Subject) -> None:
    context = made(actor_subject, [])
    assert context.corrections is not None
    stage, losses = FinetuneStage(context), []
    key, inputs = stage.inputs(0)
    for shift in (0.0, 20.0):
        with torch.no_grad():
            context.corrections.table[int(inputs.frame), 0, 0] = shift
        losses.append(float(stage.terms(key, inputs.moved(context.device, gather=False))["l1"].detach()))
    assert losses[0] != losses[1]


def test_without_a_rate_there_are_none(actor_subject: Subject) -> None:
    context = made(actor_subject, ["corrections.rate=0"])
    assert context.corrections is None and context.state_dict() == {}
    assert "corrections" not in FaceStage(context).optimizers


@pytest.mark.parametrize("saved", [torch.zeros(2, 4, 3), torch.full((30, 4, 3), float("nan"))])
def test_corrections_of_another_run_are_refused(actor_subject: Subject, saved: torch.Tensor) -> None:
    context = made(actor_subject, [])
    assert context.data.count == 30
    with pytest.raises(ValueError, match="corrections"):
        context.load_state_dict({"corrections": saved})


def test_rates_fall_from_the_last_densification_on() -> None:
    optim = OptimConfig(final_share=0.01)
    assert [gaussians_factor(i, 100, 300, optim) for i in (0, 100, 200, 300)] == pytest.approx([1.0, 1.0, 0.1, 0.01])
    assert gaussians_factor(300, 100, 300, OptimConfig()) == 1.0
