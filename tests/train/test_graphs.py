"""Steps captured in CUDA graphs do what plain steps do; without a GPU, the host's part of it."""

from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from emotalking.data import Subject
from emotalking.data.audio_features import DEFAULT_FEATURE
from emotalking.errors import InputError
from emotalking.io.settings import override
from emotalking.lipsync.personal import PersonalExpert, PersonalNetwork
from emotalking.networks.lpips import Lpips
from emotalking.ops.backends import own_kernels
from emotalking.train import context as context_module
from emotalking.train import run
from emotalking.train.context import Context
from emotalking.train.data import TrainingData
from emotalking.train.graphs import GraphSteps, Kind
from emotalking.train.perceptual import PerceptualTerm
from emotalking.train.presets import preset
from emotalking.train.stages.emotion import EmotionStage
from emotalking.train.stages.face import FaceStage
from emotalking.train.stages.finetune import FinetuneStage
from emotalking.train.stages.mouth import MouthStage
from emotalking.train.step import Stage, StepInputs, Steps, steps_of
from emotalking.train.sync import SyncTerm
from emotalking.train.sync_source import WindowSource

from .small import context as small_context

SETTINGS = [
    "model.face.initial_points=2000",
    "model.mouth.initial_points=200",
    *(f"{stage}.{part}" for stage in ("mouth", "face") for part in ("iterations=60", "warmup=8", "sh_every=10")),
    *(f"{stage}.densify.{part}" for stage in ("mouth", "face") for part in ("start=10", "every=20", "until=50")),
    "face.hair_every=3",
    "face.hair_from=10",
    "face.losses.attention=1e-3",
    *(f"{stage}.losses.normal=0.05" for stage in ("face", "emotion")),
    "audio_pretraining=0",
    "motion_pretraining=20",
    "emotion.pretraining=20",
    "corrections.rate=0.003",
    "optim.final_share=0.5",
]


JUDGED = [
    "sync.speech=none",
    "sync.delay=0.0",
    "sync.every=2",
    *(f"{stage}.losses.{part}" for stage in ("mouth", "face", "emotion") for part in ("sync=0.05", "patch_max=34")),
    *(f"{stage}.losses.{part}" for stage in ("mouth", "face") for part in ("lpips=0.2", "lpips_last=30")),
    *(f"{stage}.losses.{part}" for stage in ("emotion", "finetune") for part in ("lpips=0.2", "lpips_last=100000")),
    "face.losses.lpips_lips=0.01",
]
"""With sync and perceptual terms. In the branch stages the latter come for the last 30 steps."""


BUILDERS: dict[str, Callable[[Context], Stage]] = {
    "mouth": MouthStage,
    "face": FaceStage,
    "emotion": lambda context: EmotionStage(context, run.emotion_generator(context.data)),
    "finetune": FinetuneStage,
}


def losses(
    subject: Subject, name: str, how: str, device: str = "cuda", count: int = 60, judged: bool = False
) -> tuple[list[float], list[int]]:
    """The totals of some steps of one stage, and their frames.

    Args:
        how: `gsplat`; `plain`, our own kernels, one launch after another; `graphs`.
        judged: with sync and perceptual terms, by networks of random weights.
    """
    settings = [*SETTINGS, *(JUDGED if judged else []), f"gpu={'gsplat' if how == 'gsplat' else 'kernels'}"]
    context = small_context(subject, settings, device=device, normals=True)
    if judged:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            expert, lpips = PersonalExpert(PersonalNetwork(), "random", {}, device), Lpips("squeeze").to(device)
        data, config = context.data, context.config
        heard = WindowSource(subject, data, expert, DEFAULT_FEATURE, config.sync, Path("unused"), True)
        context.sync = SyncTerm(expert, heard, data, config.sync)
        context.perceptual = PerceptualTerm(lpips, "squeeze", config.perceptual)
    stage = BUILDERS[name](context)
    totals, frames = [], []
    with ExitStack() as stack:
        stack.enter_context(own_kernels(how != "gsplat"))
        steps = GraphSteps(stage) if how == "graphs" else Steps(stage)
        if isinstance(steps, GraphSteps):
            stack.enter_context(steps.running())
        for iteration in range(count):
            terms, frame = steps.step(iteration)
            totals.append(torch.stack(list(terms.values())).sum())
            frames.append(frame)
    return torch.stack(totals).tolist(), frames


def alike(some: list[float], others: list[float]) -> None:
    """Sums on a GPU have no fixed order, and training makes small differences grow: the mouth's last steps, a few dozen
    pixels each, differed by 6.5 % once in four runs."""
    assert some[:15] == pytest.approx(others[:15], rel=5e-3)
    assert sum(some[-20:]) == pytest.approx(sum(others[-20:]), rel=0.15)


@pytest.mark.gpu
@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("judged", [False, True])
def test_a_captured_run_is_the_plain_run(actor_subject: Subject, name: str, judged: bool) -> None:
    plain, frames = losses(actor_subject, name, "plain", judged=judged)
    captured, same = losses(actor_subject, name, "graphs", judged=judged)
    assert frames == same
    alike(captured, plain)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["mouth", "face", "finetune"])
def test_own_kernels_train_as_gsplat_does(actor_subject: Subject, name: str) -> None:
    """Not the emotion stage, which compares boxes of one size where steps are captured."""
    pytest.importorskip("gsplat")
    default, frames = losses(actor_subject, name, "gsplat")
    ours, same = losses(actor_subject, name, "graphs")
    assert frames == same
    alike(ours, default)


@pytest.mark.gpu
def test_a_captured_step_does_not_wait(actor_subject: Subject) -> None:
    stage = FaceStage(small_context(actor_subject, [*SETTINGS, "gpu=kernels"], device="cuda", normals=True))
    with steps_of(stage) as steps:
        assert isinstance(steps, GraphSteps)
        for iteration in range(21, 25):
            steps.step(iteration)
        torch.cuda.set_sync_debug_mode("error")
        try:
            for iteration in range(25, 30):
                steps.step(iteration)
        finally:
            torch.cuda.set_sync_debug_mode("default")


class Pretended:
    """Stands for a stream, an event or a graph where there is no GPU: capturing already does the work."""

    def __init__(self, *_: object) -> None: ...

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    """Every step is captured anew, so that the host's part of capturing can be tested on a CPU."""
    for name in ("Stream", "Event", "CUDAGraph"):
        monkeypatch.setattr(torch.cuda, name, Pretended)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", Pretended)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    replay = GraphSteps._replay

    def anew(self: GraphSteps, kind: Kind, inputs: StepInputs) -> dict[str, torch.Tensor]:
        self._graphs.clear()
        return replay(self, kind, inputs)

    monkeypatch.setattr(GraphSteps, "_replay", anew)


@pytest.mark.parametrize(("name", "judged"), [("face", False), ("emotion", False), ("emotion", True)])
def test_what_the_host_sends_makes_the_same_steps(
    actor_subject: Subject, pretended: None, name: str, judged: bool
) -> None:
    """Frames, colours, pictures, windows and learning rates reach a captured step as they reach a plain one."""
    plain, frames = losses(actor_subject, name, "plain", "cpu", 14, judged)
    captured, same = losses(actor_subject, name, "graphs", "cpu", 14, judged)
    assert frames == same
    assert captured == pytest.approx(plain, rel=2e-3)  # measured: 4e-4, from rates in single precision


def test_kernels_without_their_compiler_are_one_sentence(actor_subject: Subject, monkeypatch) -> None:
    context = small_context(actor_subject, [*SETTINGS, "gpu=kernels"])
    assert not context.own_kernels  # of no concern on a CPU
    monkeypatch.setattr(TrainingData, "device", torch.device("cuda"))
    monkeypatch.setattr(context_module, "available", lambda: False)
    with pytest.raises(InputError, match="cuda-bindings"):
        replace(context)


def test_no_other_gpu_setting() -> None:
    with pytest.raises(InputError, match="gsplat"):
        override(preset("tiny"), ["gpu=fast"])
