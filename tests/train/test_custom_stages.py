"""A program's own stages and audio features are trained with, or the log tells why not."""

import logging
from pathlib import Path

import pytest
import torch

from emotalking.data import Subject
from emotalking.data.audio_features import AUDIO_FEATURES, DEFAULT_FEATURE, AudioFeature
from emotalking.io.settings import override
from emotalking.train import run
from emotalking.train.context import Context
from emotalking.train.data import TrainingData
from emotalking.train.mouth_worker import mouth_worker
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


def begin(folder: Path, subject: Subject, features: str = DEFAULT_FEATURE) -> object:
    """What would train the mouth on a second device; it must not be started."""
    config = override(preset("tiny"), [f"model.audio.features={features}"])
    with mouth_worker(folder, subject.files.root, {}, config, None, CPU, CPU, resume=False) as mouth:
        return mouth


def test_own_mouth_stage_is_trained_in_this_process(
    actor_subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(run.STAGES, "mouth", OwnMouth)
    with caplog.at_level(logging.INFO, "emotalking"):
        assert begin(tmp_path, actor_subject) is None
    assert "one stage after another" in caplog.text and "the mouth stage OwnMouth" in caplog.text


@pytest.mark.parametrize("name", ["level", DEFAULT_FEATURE])
def test_own_audio_feature_is_trained_in_this_process(
    actor_subject: Subject,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    """Also one that takes the place of the package's."""
    monkeypatch.setitem(AUDIO_FEATURES, name, AudioFeature(name, name, 16, 4, __name__))
    with caplog.at_level(logging.INFO, "emotalking"):
        assert begin(tmp_path, actor_subject, name) is None
    assert "one stage after another" in caplog.text and f"the audio features '{name}'" in caplog.text
