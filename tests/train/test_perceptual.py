"""The perceptual loss in training: which backbone, where it acts, and what a run says of it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from emotalking.data import Subject
from emotalking.errors import InputError
from emotalking.io.settings import override
from emotalking.networks.lpips import Lpips
from emotalking.train import run
from emotalking.train.context import Context
from emotalking.train.perceptual import SIDE_STEPS, PerceptualTerm, make_perceptual, with_backbone
from emotalking.train.presets import preset
from emotalking.train.stages.emotion import EmotionStage
from emotalking.train.stages.face import FaceStage
from emotalking.train.stages.finetune import FinetuneStage
from emotalking.train.stages.mouth import MouthStage
from emotalking.train.step import StepInputs

from .small import context as small_context
from .small import cut_off, small

pytestmark = pytest.mark.usefixtures("one_thread", "unchecked")

SHORT = small(
    *(f"{stage}.losses.lpips=0.2" for stage in ("mouth", "face", "emotion", "finetune")),
    *(f"{stage}.losses.lpips_last=3" for stage in ("mouth", "face", "emotion", "finetune")),
    "face.losses.lpips_lips=0.01",
    "perceptual.backbone=auto",
    steps=6,
    warmup=2,
    face=150,
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with an alex backbone of random weights."""
    folder = tmp_path_factory.mktemp("models")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = Lpips("alex")
    torch.save(made.classifier.state_dict(), folder / "alexnet-owt-7be5be79.pth")
    heads = {name: value.abs() for name, value in made.heads.state_dict().items()}
    torch.save(heads, folder / "alex_lin_v0.1.pth")
    return folder


@pytest.fixture
def folder(models: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """That folder as the only place where models are looked for."""
    monkeypatch.setenv("EMOTALKING_MODELS", str(models))
    monkeypatch.setenv("HOME", str(tmp_path))
    return models


def context(subject: Subject) -> Context:
    made = small_context(subject, SHORT)
    config = with_backbone(made.config)
    return replace(made, config=config, perceptual=make_perceptual(config, "cpu"))


def test_which_backbone(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO", "emotalking")
    wanted = override(preset("tiny"), SHORT)
    assert with_backbone(wanted).perceptual.backbone == "alex"
    without = override(preset("tiny"), ["finetune.losses.lpips=0"])
    assert with_backbone(without).perceptual.backbone == "none", "no stage has a weight"
    asked = override(wanted, ["perceptual.backbone=vgg"])
    with pytest.raises(InputError, match="vgg16"):
        make_perceptual(with_backbone(asked), "cpu")
    monkeypatch.setenv("EMOTALKING_MODELS", str(tmp_path))
    assert not caplog.text
    alone = with_backbone(wanted)
    assert alone.perceptual.backbone == "squeeze" and make_perceptual(alone, "cpu") is not None
    assert f"LPIPS (squeeze): the paper's, alex, is not in {tmp_path}" in caplog.text
    refused = with_backbone(override(wanted, ["perceptual.backbone=none"]))
    assert refused.perceptual.backbone == "none" and make_perceptual(refused, "cpu") is None


def test_every_stage_has_it_at_its_end(folder: Path, actor_subject: Subject) -> None:
    parts = context(actor_subject)
    stages = [
        MouthStage(parts),
        FaceStage(parts),
        EmotionStage(parts, run.emotion_generator(parts.data)),
        FinetuneStage(parts),
    ]
    for stage in stages:
        for iteration, there in ((2, False), (3, True)):
            terms, _ = stage.losses(iteration)
            assert ("lpips" in terms) == there, (stage.name, iteration)
            assert ("lpips_lips" in terms) == (there and stage.name == "face")
    parts.perceptual = None
    assert "lpips" not in stages[-1].losses(5)[0]


def test_patches_leave_the_lips_out(folder: Path, actor_subject: Subject) -> None:
    parts = context(actor_subject)
    stage = FaceStage(parts)
    image = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(1))
    target = image.clone()
    top, left, bottom, right = stage.context.data.lips[0].tolist()
    target[:, top:bottom, left:right] = 0.0
    term = stage.context.perceptual
    assert term is not None

    def terms(stage: FaceStage) -> dict[str, torch.Tensor]:
        patches = term.draw(0, (64, 64), stage.settings.losses, parts.generator)
        return stage.perceptual_terms(StepInputs(0, patches=patches), image, target)

    found = terms(stage)
    assert float(found["lpips"]) == 0.0 and float(found["lpips_lips"]) > 0.0
    whole = replace(stage.settings.losses, lpips_lips=0.0, patch_min=64, patch_max=64)
    assert float(terms(FaceStage(parts, replace(stage.settings, losses=whole)))["lpips"]) > 0.0


def test_sides_take_turns_and_share_graphs(folder: Path) -> None:
    term = make_perceptual(with_backbone(override(preset("tiny"), SHORT)), "cpu")
    assert term is not None
    losses, draw = replace(preset("tiny").face.losses, patch_min=64, patch_max=96), torch.Generator()
    sides = [term.draw(iteration, (512, 512), losses, draw).side for iteration in range(0, 10_000, SIDE_STEPS // 2)]
    assert sides[::2] == sides[1::2]
    assert all(4 <= sides[::2].count(side) <= 8 for side in range(64, 97, 2))  # 100 turns, 17 sides
    assert term.draw(0, (512, 40), losses, draw).side == 40


def test_a_few_patches_have_the_mean_of_all(folder: Path) -> None:
    config = with_backbone(override(preset("tiny"), SHORT))
    term, weights = make_perceptual(config, "cpu"), config.face.losses
    assert term is not None
    draw = torch.Generator().manual_seed(2)
    ours, theirs = (torch.rand(1, 96, 96, 3, generator=draw) for _ in range(2))
    few = PerceptualTerm(term.distance, "alex", replace(config.perceptual, patches=1))
    fixed = replace(weights, patch_min=32, patch_max=32)
    whole = float(term.patches(ours, theirs, term.draw(0, (96, 96), fixed, draw)))
    mean = sum(float(few.patches(ours, theirs, few.draw(0, (96, 96), fixed, draw))) for _ in range(40)) / 40
    assert mean == pytest.approx(whole, rel=0.1)


def test_a_run_names_it_and_resumes_only_with_it(
    folder: Path, actor_subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = actor_subject.files.root, tmp_path / "a.safetensors"
    settings = [*SHORT, "checkpoint_every=2"]
    whole = run.train(root, tmp_path / "whole.safetensors", "tiny", "cpu", settings)
    licences = whole.avatar.metadata["licences"]
    assert whole.avatar.metadata["perceptual"] == "LPIPS (alex)"
    assert any("AlexNet" in name and licence == "BSD-3-Clause" for name, licence in licences.items())
    assert any("hama" in name and licence.startswith("Apache-2.0") for name, licence in licences.items())
    with cut_off(FinetuneStage, 5):
        run.train(root, out, "tiny", "cpu", settings)
    monkeypatch.setenv("EMOTALKING_MODELS", str(tmp_path))
    with pytest.raises(InputError, match="other settings"):
        run.train(root, out, "tiny", "cpu", settings)
    monkeypatch.setenv("EMOTALKING_MODELS", str(folder))
    resumed = run.train(root, out, "tiny", "cpu", settings).avatar.head.state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.avatar.head.state_dict().items())
