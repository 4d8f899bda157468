"""Steps can be captured in a CUDA graph: all is done on the device, and nothing waits for it."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from emotalking.networks.emonet import EmoNet
from emotalking.stylegan import adversarial as gan
from emotalking.stylegan import critics as small
from emotalking.stylegan import edit_training, inversion
from emotalking.stylegan import training as loop
from emotalking.stylegan.adversarial import AdversarialConfig, AdversarialTask
from emotalking.stylegan.critics import CriticsTask, SmallCritics, SmallEncoder, VariedCritics
from emotalking.stylegan.edit_training import EditConfig, EmotionTask, LipTask, Sources
from emotalking.stylegan.inversion import EncoderTask, Inversion, PivotalTask
from emotalking.stylegan.lip_aligned import LipAligned
from emotalking.stylegan.published_critics import Fan, PublishedCritics, VggFace2
from emotalking.stylegan.stylegan2 import StyleGAN2
from emotalking.stylegan.training import GraphSteps, Steps, Task, run

from .faces import SIZE, FormulaCritics, network, sources

COUNT = 6


class OnDevice(TorchDispatchMode):
    """Fails on every operation that reads or makes a tensor on the host.

    The device is torch's "meta", which has shapes and no numbers, so that reading one raises too.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
        assert all(tensor.device.type == "meta" for tensor in tensors), func
        return out


class Idle(SGD):
    """Updates nothing."""

    def step(self, closure: Any = None) -> None:
        pass


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adam's kernels know no device without numbers."""

    def make(module: nn.Module, rate: float, *_: object, **__: object) -> Optimizer:
        return Idle(module.parameters(), rate)

    for room in (edit_training, gan, inversion, small):
        monkeypatch.setattr(room, "adam", make)


def waits_for_nothing(task: Task) -> set[str]:
    """Take a step of each kind; the kinds."""
    kinds = {task.kind(number) for number in range(16)}
    for kind in kinds:
        with OnDevice():
            terms = task.step(kind, torch.zeros((), device="meta"))
        assert all(term.shape == () for term in terms.values())
    return kinds


def known(size: int, styles: int, dim: int) -> Sources:
    """Faces without numbers."""
    return Sources(
        torch.zeros(COUNT, size, size, 3, dtype=torch.uint8), torch.zeros(COUNT, 68, 2), torch.zeros(COUNT, styles, dim)
    )


def test_small_networks_learn_without_waiting(idle: None) -> None:
    with torch.device("meta"):
        data, labels = known(16, SIZE.styles, SIZE.style_dim), torch.zeros(COUNT, dtype=torch.long)
        critics = SmallCritics(4, 8).eval().requires_grad_(False)
        taught = CriticsTask(
            SmallCritics(4, 8), data.faces, data.ibug68, torch.zeros(COUNT, 2), labels, steps=9, batch=4
        )
        config = AdversarialConfig(batch=4, r1_every=4, path=2.0, path_every=8)
        alone = AdversarialTask(StyleGAN2(SIZE), data.faces, config)
        seen = Inversion(SmallEncoder(SIZE, 8), VariedCritics(critics), data.faces, data.ibug68)
        both = AdversarialTask(StyleGAN2(SIZE), data.faces, config, seen)
        encoder = EncoderTask(StyleGAN2(SIZE), seen, batch=4)
    assert waits_for_nothing(taught) == {"plain"} == waits_for_nothing(encoder)
    assert waits_for_nothing(alone) == {"plain", "plain+r1", "plain+r1+path"} == waits_for_nothing(both)


def test_edits_are_learnt_without_waiting(idle: None) -> None:
    with torch.device("meta"):
        critics = VariedCritics(SmallCritics(4, 8).eval().requires_grad_(False))
        data, config = known(16, SIZE.styles, SIZE.style_dim), EditConfig(batch=2)
        tasks = [kind(LipAligned(SIZE, (8,)), critics, data, config) for kind in (EmotionTask, LipTask)]
        pivotal = PivotalTask(StyleGAN2(SIZE), data.faces, data.styles, batch=2)
    assert [waits_for_nothing(task) for task in tasks] == [{"same", "other"}] * 2
    assert waits_for_nothing(pivotal) == {"plain"}


def test_the_published_critics_do_not_wait() -> None:
    with torch.device("meta"):
        critics = PublishedCritics(EmoNet().eval(), Fan().eval(), VggFace2().eval())
        faces, ibug68 = torch.zeros(1, 64, 64, 3, requires_grad=True), torch.zeros(1, 68, 2)
    with OnDevice():
        points = critics.points(faces, ibug68).points
        said = critics.emotion(faces, ibug68).sum() + points.sum() + critics.identity(faces, ibug68).sum()
        (slope,) = torch.autograd.grad(said, faces)
    assert slope.shape == faces.shape


@pytest.mark.gpu
def test_captured_steps_do_what_plain_ones_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def learnt(how: str) -> tuple[list[dict[str, float]], list[Tensor]]:
        monkeypatch.setattr(loop, "steps_of", GraphSteps if how == "graphs" else Steps)
        torch.manual_seed(0)
        data = sources(32)
        faces, ibug68 = data.faces.cuda(), data.ibug68.cuda()
        critics = SmallCritics(4, 8).cuda().eval().requires_grad_(False)
        seen = Inversion(SmallEncoder(SIZE, 8).cuda(), VariedCritics(critics), faces, ibug68)
        config = AdversarialConfig(batch=8, rate=1e-4, r1_every=4, encoder_rate=1e-4)
        task = AdversarialTask(StyleGAN2(SIZE).cuda(), faces, config, seen)
        rows = run(task, 40, tmp_path / how)
        return [row["terms"] for row in rows], [p.detach().cpu() for p in task.network.parameters()]

    (plain, weights), (captured, others) = learnt("plain"), learnt("graphs")
    for ours, theirs in zip(captured, plain, strict=True):
        assert ours == pytest.approx(theirs, rel=0.05, abs=0.02)
    for ours, theirs in zip(others, weights, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0.05, atol=5e-3)


def test_ctrl_c_ends_the_step_and_saves(tmp_path: Path, one_thread: None) -> None:
    def task(press: int | None) -> LipTask:
        made = LipTask(network(), FormulaCritics(), sources(), EditConfig(batch=2, mapping_rate=3e-3))
        step = made.step

        def pressed(kind: str, number: Tensor) -> dict[str, Tensor]:
            if press is not None and number == press:
                os.kill(os.getpid(), signal.SIGINT)
            return step(kind, number)

        made.step = pressed  # type: ignore[method-assign]
        return made

    straight = task(None)
    run(straight, 6, tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        run(task(3), 6, tmp_path / "b")
    again = task(None)
    rows = run(again, 6, tmp_path / "b")
    assert [row["iteration"] for row in rows] == [4, 6]  # the fourth step was finished, and none is taken twice
    for ours, theirs in zip(again.network.parameters(), straight.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)
