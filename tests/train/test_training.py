"""The trainer on the actor: it learns, resumes exactly, stops at bad numbers, and each stage trains only its own."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from emotalking.data import Subject
from emotalking.data.audio_features import DEFAULT_FEATURE
from emotalking.errors import InputError
from emotalking.evaluate.held_out import evaluate_held_out
from emotalking.io.settings import from_dict, to_dict
from emotalking.models.avatar import Avatar
from emotalking.models.head import render_layer
from emotalking.ops.normals import normals_from_render
from emotalking.ops.sh import rgb_to_sh0
from emotalking.train import run
from emotalking.train.callbacks.log import TrainingFailed
from emotalking.train.config import TrainConfig
from emotalking.train.context import Context
from emotalking.train.data import TrainingData
from emotalking.train.presets import PRESETS
from emotalking.train.rendered_maps import normal_channels
from emotalking.train.stages.emotion import EmotionStage
from emotalking.train.stages.face import FaceStage
from emotalking.train.stages.finetune import FinetuneStage
from emotalking.train.stages.mouth import MouthStage
from emotalking.train.step import StepInputs
from emotalking.train.trainer import Trainer

from .small import context as small_context
from .small import cut_off, small

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = small(
    *(f"{stage}.lr_decay_from=20" for stage in ("mouth", "face")),
    *(f"{stage}.densify.{part}" for stage in ("mouth", "face") for part in ("start=4", "every=8", "until=20")),
    *(f"{stage}.densify.prune_opacity_gain=0" for stage in ("mouth", "face")),  # or one Gaussian is left of each
    "emotion.iterations=12",
    "finetune.iterations=8",
    "checkpoint_every=5",
    "corrections.rate=0.01",
    "optim.final_share=0.5",
    steps=24,
    warmup=6,
    pretraining=5,
    face=300,
    mouth=60,
)


def context(subject: Subject, *settings: str, normals: bool = False) -> Context:
    return small_context(subject, [*SHORT, *settings], normals=normals)


def normal_error_degrees(data: TrainingData, stage: FaceStage, frames: int = 6) -> float:
    """Mean angle between rendered and true face normals."""
    angles = []
    for frame in range(frames):
        truth, gaussians = data.normal_map(frame), stage.branch.gaussians
        view = data.conditions.viewmats[frame : frame + 1]
        deformed = stage.deform(StepInputs(frame))
        normals = normal_channels(gaussians, deformed, view)
        layer = render_layer(gaussians, deformed, view, data.K, data.size, extra=normals)
        rendered = normals_from_render(layer.extra, layer.alpha)
        assert truth is not None
        cosine = (rendered * truth).sum(-1)[truth.abs().amax(-1) > 0]
        angles.append(float(torch.rad2deg(cosine.clamp(-1, 1).acos()).mean()))
    return sum(angles) / len(angles)


@pytest.mark.usefixtures("unchecked")
def test_normal_terms_turn_the_gaussians(actor_subject: Subject) -> None:
    errors = []
    for weight in (0.0, 0.05):
        settings = ["face.iterations=120", "face.warmup=60", "model.face.initial_points=800"]
        settings += [f"face.losses.normal={weight}", f"face.losses.normal_tv={weight / 10}", "optim.normals=5e-3"]
        made = context(actor_subject, *settings, normals=True)
        stage = FaceStage(made)
        for iteration in range(stage.iterations):
            terms, _ = stage.losses(iteration)
            assert ("normal" in terms) == (weight > 0)
            torch.stack(list(terms.values())).sum().backward()
            for optimizer in stage.optimizers.values():
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            errors.append(normal_error_degrees(made.data, stage))
    assert errors[1] < 0.6 * errors[0], errors


def test_a_subject_without_normal_maps_trains_without_their_terms(actor_subject: Subject) -> None:
    made = context(actor_subject, "face.losses.normal=0.05")
    assert "normal" not in FaceStage(made).losses(0)[0]


def weights(avatar: Avatar) -> dict[str, torch.Tensor]:
    return avatar.head.state_dict()


@pytest.mark.usefixtures("unchecked")
def test_whole_run_learns_and_its_avatar_reads_back(actor_subject: Subject, tmp_path: Path) -> None:
    settings = ["mouth.iterations=20", "mouth.warmup=10", "face.iterations=150", "face.warmup=40"]
    settings += ["emotion.iterations=12", "finetune.iterations=10", "model.face.initial_points=800"]
    settings += ["face.densify.start=20", "face.densify.every=20", "face.densify.until=100", "motion_pretraining=40"]
    settings += ["closed_mouth_code=10", "audio_pretraining=40", "emotion.pretraining=10"]
    made = run.train(actor_subject.files.root, tmp_path / "a.safetensors", "tiny", "cpu", settings)
    assert set(made.stage_seconds) == {"mouth", "face", "emotion", "finetune"}
    log = [json.loads(line) for line in (tmp_path / "a.safetensors.run" / "log.jsonl").read_text().splitlines()]
    face = [row["loss"] for row in log if row["kind"] == "step" and row["stage"] == "face"]
    assert face[-1] < 0.8 * face[0]
    again = Avatar.load(made.path)
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(made.avatar).items())
    scores = evaluate_held_out(again, actor_subject)
    assert len(scores.indices) == 3
    assert scores.summary()["psnr"] > 18.0
    assert not (tmp_path / "a.safetensors.run" / "checkpoint.pt").exists()


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_takes_two_steps_of_each_stage(actor_subject: Subject, tmp_path: Path, name: str) -> None:
    settings = [setting for setting in small("sync.expert=none") if "initial_points" not in setting]
    made = run.train(actor_subject.files.root, tmp_path / "a.safetensors", name, "cpu", settings)
    assert all(bool(torch.isfinite(value).all()) for value in weights(made.avatar).values())


@pytest.fixture(scope="module")
def whole(one_thread: None, actor_subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Avatar:
    """What an uninterrupted short run makes."""
    out = tmp_path_factory.mktemp("whole") / "a.safetensors"
    return run.train(actor_subject.files.root, out, "tiny", "cpu", SHORT).avatar


@pytest.mark.usefixtures("unchecked")
def test_resumed_equals_uninterrupted(actor_subject: Subject, tmp_path: Path, whole: Avatar) -> None:
    root = actor_subject.files.root
    assert min(branch.gaussians.count for branch in (whole.head.face, whole.head.mouth)) > 20
    for stage, iteration in ((MouthStage, 13), (FaceStage, 10), (EmotionStage, 7), (FinetuneStage, 5)):  # one run
        with cut_off(stage, iteration):
            run.train(root, tmp_path / "cut.safetensors", "tiny", "cpu", SHORT)
    resumed = run.train(root, tmp_path / "cut.safetensors", "tiny", "cpu", SHORT)
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed.avatar)[name]), name


@pytest.mark.usefixtures("unchecked")
def test_a_run_that_0_2_began_on_two_devices_begins_anew(actor_subject: Subject, tmp_path: Path, whole: Avatar) -> None:
    """Its checkpoint may lack the mouth, which another process was training."""
    folder = tmp_path / "a.safetensors.run"
    (folder / run.MOUTH_ELSEWHERE).mkdir(parents=True)
    (folder / "checkpoint.pt").write_bytes(b"never read")
    made = run.train(actor_subject.files.root, tmp_path / "a.safetensors", "tiny", "cpu", SHORT)
    assert [path.name for path in folder.glob("mouth*")] == []
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(made.avatar)[name]), name


def test_checkpoint_of_other_settings_is_refused(actor_subject: Subject, tmp_path: Path) -> None:
    root, out = actor_subject.files.root, tmp_path / "a.safetensors"
    with cut_off(FaceStage, 1):
        run.train(root, out, "tiny", "cpu", SHORT)
    with pytest.raises(InputError, match="other settings"):
        run.train(root, out, "tiny", "cpu", [*SHORT, "seed=5"])
    checkpoint = tmp_path / "a.safetensors.run" / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(InputError, match="damaged"):
        run.train(root, out, "tiny", "cpu", SHORT)


def test_nan_stops_with_stage_iteration_term_and_frame(actor_subject: Subject, tmp_path: Path) -> None:
    parts = context(actor_subject)
    parts.data.conditions.aus[4] = math.nan
    stage = FaceStage(parts, replace(parts.config.face, warmup=0))
    trainer = Trainer(parts.head, [lambda: stage], parts.generator, tmp_path, {}, 1000)
    with pytest.raises(TrainingFailed, match=r"stage 'face'.*iteration \d+ on frame 4"):
        trainer.run()


@pytest.mark.parametrize("stage_class", [MouthStage, FaceStage, FinetuneStage])
def test_empty_masks_are_harmless(actor_subject: Subject, stage_class: type) -> None:
    parts = context(actor_subject)
    parts.data.labels[:] = 0
    stage = stage_class(parts)
    terms, _ = stage.losses(stage.iterations - 1)
    torch.stack(list(terms.values())).sum().backward()
    assert all(bool(torch.isfinite(value)) for value in terms.values())


def test_emotion_stage_leaves_the_face_alone(actor_subject: Subject) -> None:
    parts = context(actor_subject)
    before = {name: value.clone() for name, value in parts.head.state_dict().items()}
    stage = EmotionStage(parts, run.emotion_generator(parts.data))
    for iteration in range(4):
        terms, _ = stage.losses(iteration)
        torch.stack(list(terms.values())).sum().backward()
        stage.before_update(iteration)
        stage.optimizers["networks"].step()
    changed = {
        name.split(".")[0] for name, value in parts.head.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {"emotion"}


def test_finetune_changes_only_colours_and_opacities(actor_subject: Subject) -> None:
    parts = context(actor_subject)
    before = {name: value.clone() for name, value in parts.head.state_dict().items()}
    stage = FinetuneStage(parts)
    for iteration in range(3):
        terms, _ = stage.losses(iteration)
        torch.stack(list(terms.values())).sum().backward()
        stage.optimizers["colours"].step()
    changed = {name for name, value in parts.head.state_dict().items() if not torch.equal(value, before[name])}
    assert changed <= {f"{b}.gaussians.{p}" for b in ("face", "mouth") for p in ("sh0", "sh_rest", "opacity_logits")}
    assert "face.gaussians.opacity_logits" in changed
    assert "mouth.gaussians.opacity_logits" not in changed


def test_green_gaussians_of_the_mouth_become_small_and_faint(actor_subject: Subject) -> None:
    parts = context(actor_subject)
    stage, gaussians = MouthStage(parts), parts.head.mouth.gaussians
    with torch.no_grad():
        gaussians.sh0[:3, 0] = rgb_to_sh0(torch.tensor([0.0, 1.0, 0.0]))
        gaussians.sh0[3:, 0] = rgb_to_sh0(torch.tensor([0.6, 0.1, 0.2]))
    before = gaussians.scales.clone()
    stage.clean_chroma_key(torch.tensor([0.0, 0.0, 4.0]), 0)
    torch.testing.assert_close(gaussians.scales[:3], before[:3] / 10)
    torch.testing.assert_close(gaussians.opacities[:3], torch.full((3,), 0.1))
    assert torch.equal(gaussians.scales[3:], before[3:])


def test_without_emotion_branch_there_is_no_emotion_stage(actor_subject: Subject, tmp_path: Path) -> None:
    made = run.train(
        actor_subject.files.root, tmp_path / "a.safetensors", "tiny", "cpu", [*SHORT, "model.emotion.branch=none"]
    )
    assert "emotion" not in made.stage_seconds
    assert made.avatar.head.emotion is None
    assert evaluate_held_out(made.avatar, actor_subject, limit=1).summary()["frames"] == 1


def test_one_gaussian_left_still_trains(actor_subject: Subject) -> None:
    parts = context(actor_subject, "model.face.initial_points=1", "model.mouth.initial_points=1")
    for stage in (MouthStage(parts), FaceStage(parts)):
        for iteration in range(3):
            terms, _ = stage.losses(iteration)
            torch.stack(list(terms.values())).sum().backward()
            for optimizer in stage.optimizers.values():
                optimizer.step()
        assert bool(torch.isfinite(stage.branch.gaussians.means).all())


def test_behind_is_torso_over_plate(actor_subject: Subject) -> None:
    data = TrainingData.load(actor_subject, np.array([0]), DEFAULT_FEATURE, "cpu")
    behind = data.behind(0)[0]
    clear = data.torso[0, ..., 3] == 0
    assert torch.allclose(behind[clear], data.background[clear].float() / 255.0)
    solid = data.torso[0, ..., 3] == 255
    assert torch.allclose(behind[solid], data.torso[0][solid][:, :3].float() / 255.0, atol=1e-6)


def test_config_of_a_run_rebuilds(actor_subject: Subject) -> None:
    config = context(actor_subject).config
    assert from_dict(TrainConfig, to_dict(config)) == config
