"""Steps captured in CUDA graphs do what plain steps do."""

from collections.abc import Callable

import pytest
import torch

from emotalking.configs.presets import override, preset
from emotalking.subject import Subject
from emotalking.train import run
from emotalking.train.branch_stage import Context
from emotalking.train.data import TrainingData
from emotalking.train.emotion_stage import EmotionStage
from emotalking.train.finetune_stage import FinetuneStage
from emotalking.train.graphs import GraphSteps
from emotalking.train.stages import FaceStage, MouthStage
from emotalking.train.step import Stage, Steps

pytestmark = pytest.mark.gpu

SETTINGS = [
    "model.face.initial_points=2000",
    "model.mouth.initial_points=200",
    *(f"{stage}.{part}" for stage in ("mouth", "face") for part in ("iterations=60", "warmup=8", "sh_every=10")),
    *(f"{stage}.densify.{part}" for stage in ("mouth", "face") for part in ("start=10", "every=20", "until=50")),
    "face.hair_every=3",
    "face.hair_from=10",
    "face.losses.attention=1e-3",
    *(f"{stage}.losses.normal=0.05" for stage in ("face", "emotion")),
    "audio_start=0",
    "motion_start=20",
]


BUILDERS: dict[str, Callable[[Context], Stage]] = {
    "mouth": MouthStage,
    "face": FaceStage,
    "emotion": lambda context: EmotionStage(context, run.emotion_generator(context.data)),
    "finetune": FinetuneStage,
}


def losses(subject: Subject, name: str, graphs: bool) -> tuple[list[float], list[int]]:
    """The totals of 60 steps of one stage, and their frames."""
    config = override(preset("tiny"), SETTINGS)
    data = TrainingData.load(subject, subject.train_indices, "mel", "cuda", normals=True)
    generator = torch.Generator().manual_seed(0)
    stage = BUILDERS[name](Context(run.build_head(config, data, generator), data, config, generator))
    totals, frames = [], []
    steps = GraphSteps(stage) if graphs else Steps(stage)

    def go() -> None:
        for iteration in range(60):
            terms, frame = steps.take(iteration)
            totals.append(torch.stack(list(terms.values())).sum())
            frames.append(frame)

    if isinstance(steps, GraphSteps):
        with steps.running():
            go()
    else:
        go()
    return torch.stack(totals).tolist(), frames


@pytest.mark.parametrize("name", BUILDERS)
def test_a_captured_run_is_the_plain_run(actor_subject: Subject, name: str) -> None:
    plain, frames = losses(actor_subject, name, graphs=False)
    captured, same = losses(actor_subject, name, graphs=True)
    assert frames == same
    # Sums on a GPU have no fixed order, and training makes small differences grow.
    assert captured[:15] == pytest.approx(plain[:15], rel=5e-3)
    assert sum(captured[-20:]) == pytest.approx(sum(plain[-20:]), rel=0.05)


def test_a_captured_step_does_not_wait(actor_subject: Subject) -> None:
    config = override(preset("tiny"), SETTINGS)
    data = TrainingData.load(actor_subject, actor_subject.train_indices, "mel", "cuda", normals=True)
    generator = torch.Generator().manual_seed(0)
    stage = FaceStage(Context(run.build_head(config, data, generator), data, config, generator))
    steps = GraphSteps(stage)
    with steps.running():
        for iteration in range(21, 25):
            steps.take(iteration)
        torch.cuda.set_sync_debug_mode("error")
        try:
            for iteration in range(25, 30):
                steps.take(iteration)
        finally:
            torch.cuda.set_sync_debug_mode("default")
