"""Small trainings of the actor, and their parts."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from emotalking.data import Subject
from emotalking.data.audio_features import DEFAULT_FEATURE
from emotalking.io.settings import override
from emotalking.train import run
from emotalking.train.context import Context
from emotalking.train.data import TrainingData
from emotalking.train.presets import preset
from emotalking.train.step import Stage


def small(
    *more: str, steps: int = 2, warmup: int = 1, pretraining: int = 0, face: int = 200, mouth: int = 40
) -> list[str]:
    """Settings of a run with ``steps`` in each stage and so many Gaussians; ``more`` takes precedence."""
    return [
        f"model.face.initial_points={face}",
        f"model.mouth.initial_points={mouth}",
        *(f"{stage}.iterations={steps}" for stage in ("mouth", "face", "emotion", "finetune")),
        *(f"{stage}.warmup={warmup}" for stage in ("mouth", "face")),
        f"audio_pretraining={pretraining}",
        f"motion_pretraining={pretraining}",
        f"emotion.pretraining={pretraining}",
        "closed_mouth_code=2",
        *more,
    ]


def training_data(subject: Subject, *, device: str = "cpu", normals: bool = False) -> TrainingData:
    """The training frames."""
    return TrainingData.load(subject, subject.train_indices, DEFAULT_FEATURE, device, normals=normals)


def context(
    subject: Subject, settings: list[str], *, device: str = "cpu", normals: bool = False, seed: int = 0
) -> Context:
    """What stages of `tiny` with these settings work on."""
    config, data = override(preset("tiny"), settings), training_data(subject, device=device, normals=normals)
    generator = torch.Generator().manual_seed(seed)
    return Context(run.build_head(config, data, generator), data, config, generator)


@contextmanager
def cut_off(stage: type[Stage], at: int) -> Iterator[None]:
    """The run of the block ends in an iteration of a stage, as by a power cut."""
    losses = stage.losses

    def fail(self: Stage, iteration: int) -> dict[str, torch.Tensor]:
        if iteration == at:
            raise RuntimeError("power cut")
        return losses(self, iteration)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="power cut"):
        patch.setattr(stage, "losses", fail)
        yield
