"""A program's own stages and audio features are trained with, or the log tells why not."""

import pytest
import torch

from emotalking.data import Subject
from emotalking.train import run
from emotalking.train.stages.face import FaceStage
from emotalking.train.stages.mouth import MouthStage
from emotalking.train.targets import MixedTargets

from .small import context, small

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
    made = context(actor_subject, small(f"model.emotion.branch={branch}", face=60, mouth=20))
    face = run.stage_builders(made)[1]()
    assert isinstance(face, OwnFace)
    assert isinstance(face.source, MixedTargets) == (branch == "combined")
