"""The combined face branch learns emotion in the face stage, and only there."""

import math
from pathlib import Path

import pytest
import torch

from emotalking.data import Subject
from emotalking.models.avatar import Avatar
from emotalking.train import run
from emotalking.train.stages.face import FaceStage, combined_face_stage
from emotalking.train.targets import MixedTargets

from .small import context, cut_off, small

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = small(
    "model.emotion.branch=combined",
    "mouth.iterations=4",
    "mouth.warmup=2",
    "face.iterations=12",
    "face.warmup=4",
    "face.lr_decay_from=10",
    "emotion.iterations=8",
    "checkpoint_every=5",
    face=300,
    mouth=60,
)


def stage(subject: Subject, *settings: str) -> FaceStage:
    made = context(subject, [*SHORT, *settings], normals=True)
    return combined_face_stage(made, run.emotion_generator(made.data))


def mixed(made: FaceStage) -> MixedTargets:
    assert isinstance(made.source, MixedTargets)
    return made.source


def test_it_takes_the_steps_and_targets_of_both_stages(actor_subject: Subject) -> None:
    made = stage(actor_subject, "emotion.iterations=800", "face.iterations=1200", "emotion.real_share=0.25")
    assert made.iterations == 2000 and made.settings.lr_decay_from == 810
    assert math.isclose(mixed(made).share, 600 / 1996)
    own, emotional = made.context.data.conditions.va, 0
    for _ in range(300):
        _, inputs = made.inputs(made.settings.warmup)
        emotional += inputs.target is not None and not torch.equal(inputs.target.va[0], own[inputs.frame])
    assert 55 <= emotional <= 125  # 90 expected, four standard deviations


def test_warm_up_sees_original_frames_alone(actor_subject: Subject) -> None:
    made = stage(actor_subject)
    assert all(made.inputs(iteration)[1].target is None for iteration in range(made.settings.warmup))


def test_emotional_targets_have_no_normal_terms(actor_subject: Subject) -> None:
    made = stage(actor_subject, "face.losses.normal=0.05", "emotion.iterations=5000", "emotion.real_share=0")
    mixed(made).share = 1.0
    assert "normal" not in made.losses(made.settings.warmup)[0]
    mixed(made).share = 0.0
    assert "normal" in made.losses(made.settings.warmup)[0]


@pytest.fixture(scope="module")
def whole(one_thread: None, actor_subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> run.TrainResult:
    """An uninterrupted run."""
    return run.train(actor_subject.files.root, tmp_path_factory.mktemp("whole") / "a.safetensors", "tiny", "cpu", SHORT)


def test_whole_run_ends_in_an_avatar_that_shows_emotion(whole: run.TrainResult) -> None:
    assert set(whole.stage_seconds) == {"mouth", "face", "finetune"}
    avatar = Avatar.load(whole.path)
    assert avatar.head.emotion is None and avatar.head.emotional
    assert whole.avatar.metadata["generator"] == "mesh-warp"


def test_resumed_equals_uninterrupted(
    actor_subject: Subject, tmp_path: Path, whole: run.TrainResult, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "emotalking")
    root = actor_subject.files.root
    with cut_off(FaceStage, 13):
        run.train(root, tmp_path / "cut.safetensors", "tiny", "cpu", SHORT)
    assert "going on" not in caplog.text
    resumed = run.train(root, tmp_path / "cut.safetensors", "tiny", "cpu", SHORT)
    assert "going on from iteration 10 of the stage face" in caplog.text
    again = resumed.avatar.head.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in whole.avatar.head.state_dict().items())
