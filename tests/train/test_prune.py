"""Gaussians that hardly show are removed before the fine-tune stage, and nothing else is."""

import pytest
import torch
from torch import Tensor

from emotalking.data import Subject
from emotalking.models.compositor import Compositor
from emotalking.models.fixed import FixedHead
from emotalking.models.gaussians import Deformed
from emotalking.train.context import Context
from emotalking.train.densify import resize
from emotalking.train.prune import blending_weights, drop_unseen
from emotalking.train.stages.finetune import FinetuneStage

from .test_training import context

pytestmark = pytest.mark.usefixtures("one_thread")
FAR = 3.0
"""World units to the side: outside of every frame."""


@pytest.fixture
def parts(actor_subject: Subject) -> Context:
    return context(actor_subject)


def moved_aside(parts: Context, rows: slice) -> None:
    with torch.no_grad():
        parts.head.face.gaussians.means[rows, 0] = FAR


def frame(parts: Context) -> Tensor:
    given = parts.data.conditions.at(0)
    with torch.no_grad():
        return Compositor(parts.data.K, parts.data.size).frames(parts.head, given, parts.data.behind(0)).rgb


def test_weights_are_sums_of_what_is_drawn(parts: Context) -> None:
    """Of one Gaussian alone: its coverage, summed over the pixels of the frame that shows the most of it."""
    for branch in (parts.head.face, parts.head.mouth):
        resize(branch.gaussians, None, torch.tensor([0]), torch.zeros(0, dtype=torch.long))
    parts.head.emotion = None
    with torch.no_grad():
        parts.head.mouth.gaussians.means[:, 0] = FAR
    largest = 0.0
    for row in torch.linspace(0, parts.data.count - 1, 4).round().long().split(1):
        given = parts.data.conditions.at(row)
        with torch.no_grad():
            drawn = Compositor(parts.data.K, parts.data.size).frames(parts.head, given)
        largest = max(largest, float(drawn.face_alpha.sum()))
    weights = blending_weights(parts)
    assert largest > 0 and float(weights["mouth"]) == 0
    assert largest * 0.999 <= float(weights["face"]) < 1.5 * largest  # more only where it is seen turned


def test_unseen_gaussians_go_and_frames_stay(parts: Context) -> None:
    moved_aside(parts, slice(0, 20))
    before, names = frame(parts), set(parts.head.state_dict())
    kept = parts.head.face.gaussians.means[20:].clone()
    removed = drop_unseen(parts, 0.0)
    assert removed["face"] >= 20 and parts.head.face.gaussians.count == len(kept) + 20 - removed["face"]
    assert torch.isin(parts.head.face.gaussians.means, kept).all() and set(parts.head.state_dict()) == names
    assert torch.equal(frame(parts), before)


def test_what_only_an_emotion_shows_stays(parts: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    moved_aside(parts, slice(0, 20))

    unmoved = FixedHead.deformed

    def deformed(
        self: FixedHead, audio: Tensor, aus: Tensor, va: Tensor, gaze: Tensor | None
    ) -> tuple[Deformed, Deformed]:
        face, mouth = unmoved(self, audio, aus, va, gaze)
        back = torch.where((face.means[..., :1] > FAR / 2) & (va[:, :1] < -0.5)[:, None], -FAR, 0.0)
        face.means = torch.cat([face.means[..., :1] + back, face.means[..., 1:]], -1)
        return face, mouth

    monkeypatch.setattr(FixedHead, "deformed", deformed)
    before = parts.head.face.gaussians.means[:20].clone()
    drop_unseen(parts, 0.0)
    assert int(torch.isin(before[:, 1], parts.head.face.gaussians.means[:, 1]).sum()) >= 15


def test_one_gaussian_of_a_branch_always_stays(parts: Context) -> None:
    drop_unseen(parts, 1.0)
    assert parts.head.face.gaussians.count == parts.head.mouth.gaussians.count == 1


def test_the_stage_trains_what_is_left(parts: Context) -> None:
    moved_aside(parts, slice(0, 20))
    stage, count = FinetuneStage(parts), parts.head.face.gaussians.count
    stage.begin()
    assert parts.head.face.gaussians.count <= count - 20
    assert stage.growth()["pruned"] >= 20 and stage.growth() == {"grown": 0, "pruned": 0}
    terms, _ = stage.losses(0)
    torch.stack(list(terms.values())).sum().backward()
    before = parts.head.face.gaussians.sh0.detach().clone()
    stage.optimizers["colours"].step()
    assert not torch.equal(parts.head.face.gaussians.sh0, before)
