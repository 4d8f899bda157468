"""A program's own stages and audio features are trained with, or the log tells why not."""

import pytest
import torch

from emotalking.data import Subject
from emotalking.io.settings import override
from emotalking.train import run
from emotalking.train.context import Context
from emotalking.train.data import TrainingData
from emotalking.train.presets import preset
from emotalking.train.stages.face import FaceStage
from emotalking.train.stages.mouth import MouthStage
from emotalking.train.targets import MixedTargets

pytestmark = pytest.mark.usefixtures("one_thread", "unchecked")
CPU = torch.device("cpu")


class OwnFace(FaceStage):
    pass


class OwnMouth(MouthStage):
    pass


@pytest.mark.parametrize("branch", ["separate", "combined", "none"])
def test_own_face_stage_is_built_with_every_branch(
    actor_subject: Subject, monkeypatch: pytest.MonkeyPatch, branch: str
) -> None:
    monkeypatch.setattr(run.STAGES, "face", OwnFace)
    small = ["model.face.initial_points=60", "model.mouth.initial_points=20"]
    quick = ["audio_pretraining=0", "motion_pretraining=0", f"model.emotion.branch={branch}"]
    config = override(preset("tiny"), small + quick)
    config = run.resolve_config(config, actor_subject)
    data = TrainingData.load(actor_subject, actor_subject.train_indices, config.model.audio.features, "cpu")
    generator = torch.Generator().manual_seed(0)
    context = Context(run.build_head(config, data, generator), data, config, generator)
    face = run.stage_builders(context)[1]()
    assert isinstance(face, OwnFace)
    assert isinstance(face.source, MixedTargets) == (branch == "combined")
