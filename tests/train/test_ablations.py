"""Switches of the recipe: what each changes, and that nothing else does (paper table 4)."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from emotalking.data import Subject
from emotalking.data.labels import Label
from emotalking.io.settings import override
from emotalking.train import run
from emotalking.train.context import Context
from emotalking.train.stages.emotion import EmotionStage
from emotalking.train.stages.face import FaceStage
from emotalking.train.stages.mouth import LEAST_MOUTH, MouthStage
from emotalking.train.targets import EmotionalTargets

from .small import context as small_context
from .small import small

pytestmark = pytest.mark.usefixtures("one_thread", "unchecked")

SHORT = small("emotion.iterations=4", "finetune.iterations=0", steps=8, warmup=3, pretraining=2, face=150)


def context(subject: Subject, *settings: str) -> Context:
    return small_context(subject, [*SHORT, *settings], normals=any(".normal" in setting for setting in settings))


def test_without_the_emotion_branch_mouth_and_face_are_the_same_bits(actor_subject: Subject, tmp_path: Path) -> None:
    root = actor_subject.files.root
    full = run.train(root, tmp_path / "full.safetensors", "tiny", "cpu", SHORT).avatar.head.state_dict()
    plain = run.train(
        root, tmp_path / "plain.safetensors", "tiny", "cpu", [*SHORT, "model.emotion.branch=none"]
    ).avatar.head.state_dict()
    assert {name.split(".")[0] for name in full} == {"face", "mouth", "emotion"}
    assert {name.split(".")[0] for name in plain} == {"face", "mouth"}
    assert all(torch.equal(value, full[name]) for name, value in plain.items())


@pytest.fixture(scope="module")
def parts(actor_subject: Subject) -> Context:
    """With normals, which are used where a term needs them."""
    return small_context(actor_subject, SHORT, normals=True)


@pytest.mark.parametrize(
    "term", ["normal", "normal_cosine", "normal_tv", "attention", "eyes", "silhouette", "motion", "lips"]
)
def test_a_terms_weight_is_its_switch(parts: Context, term: str) -> None:
    found = {}
    for weight in ("0.0", "0.25"):
        config = override(parts.config, [f"face.losses.{term}={weight}"])
        stage = FaceStage(replace(parts, config=config, generator=torch.Generator().manual_seed(0)))
        found[weight] = stage.losses(5)[0]
    assert float(found["0.25"][term].detach()) > 0.0
    assert float(found["0.0"].get(term, torch.zeros(())).detach()) == 0.0
    others = found["0.25"].keys() - {term}
    assert found["0.0"].keys() - {term} == others
    # With attention maps the network's products are summed in another order.
    assert all(torch.allclose(found["0.0"][name], found["0.25"][name], rtol=1e-5, atol=1e-8) for name in others)


def test_emotion_compares_normals_that_moved_with_the_face(actor_subject: Subject) -> None:
    weights = ["emotion.losses.normal=0.05", "emotion.losses.normal_tv=0.005", "emotion.real_share=0"]
    parts = context(actor_subject, *weights)
    stage = EmotionStage(parts, run.emotion_generator(parts.data))
    for _ in range(3):  # the branch begins at nothing
        terms, _ = stage.losses(0)
        assert terms.keys() >= {"normal", "normal_tv"}
        torch.stack(list(terms.values())).sum().backward()
        stage.optimizers["networks"].step()
    gradient = stage.network.encoder.table.grad
    assert gradient is not None and bool(torch.isfinite(gradient).all()) and bool(gradient.any())
    whole = EmotionalTargets(parts.data, run.emotion_generator(parts.data), parts.generator, va_limit=1.0, normals=True)
    frame, target = whole.draw(0)
    assert target is not None
    given, source = target.normals, parts.data.normal_map(frame)
    assert given is not None and source is not None and not torch.equal(given, source)
    length = given.norm(dim=-1)
    assert bool(((length == 0) | ((length - 1).abs() < 1e-4)).all())
    known, same = (length > 0), (source.norm(dim=-1) > 0)
    assert float((known & same).sum() / (known | same).sum()) > 0.8
    assert float((given * source).sum(-1)[known & same].mean()) > 0.9
    plain = context(actor_subject)
    assert "normal" not in EmotionStage(plain, run.emotion_generator(plain.data)).losses(0)[0]


def test_attention_reaches_its_networks_and_not_the_picture(actor_subject: Subject) -> None:
    """Where the tri-planes are read may change, as upstream; how the Gaussians cover the screen teaches nothing."""
    stage = FaceStage(context(actor_subject, "face.losses.attention=1.0"))
    stage.branch.zero_grad()
    stage.losses(5)[0]["attention"].backward()
    touched = {name.split(".")[1] for name, p in stage.branch.named_parameters() if p.grad is not None and p.grad.any()}
    networks = {"expression_attention", "audio_attention", "encoder"}
    assert "expression_attention" in touched and touched <= networks | {"means"}


def test_mouth_sees_frames_that_show_it_and_black_at_the_end(actor_subject: Subject) -> None:
    parts = context(actor_subject, "background=green", "mouth.freeze_geometry_from=6", "mouth.curriculum_every=2")
    mouth, pixels = MouthStage(parts), parts.data.pixels_of(Label.MOUTH)
    drawn = {mouth.draw(iteration) for iteration in range(60)}
    least = LEAST_MOUTH * 64 * 64
    assert all(pixels[frame] >= least for frame in drawn) and (pixels < least).any()
    assert [mouth.learner.frozen(iteration) for iteration in (5, 6)] == [False, True]
    assert parts.backdrop().tolist() == [0.0, 1.0, 0.0]
    assert parts.backdrop(finished=True).tolist() == [0.0, 0.0, 0.0]


def test_audio_encoders_learn_from_a_share_of_the_stage_on(actor_subject: Subject) -> None:
    settings = ["face.iterations=40", "optim.audio=1e-4", "optim.audio_from=0.5", "model.audio.encoder=published"]
    stage = FaceStage(context(actor_subject, *settings))
    rates = []
    for iteration in (0, 19, 20):
        stage.before_update(iteration)
        rates.append({group["name"]: group["lr"] for group in stage.optimizers["networks"].param_groups})
    for name in ("audio", "temporal"):
        assert [rate[name] > 0 for rate in rates] == [False, False, True]
    assert all(rate["networks"] > 0 for rate in rates)
