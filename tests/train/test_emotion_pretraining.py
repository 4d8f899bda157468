"""The head start of the emotion network, and what the emotion stage compares once more."""

from dataclasses import replace

import pytest
import torch

from emotalking.data import Subject
from emotalking.emotion.mesh_warp.warp import MeshWarp
from emotalking.io.settings import override
from emotalking.train.config import TrainConfig
from emotalking.train.context import Context
from emotalking.train.data import TrainingData
from emotalking.train.emotion_pretraining import pretrain_emotion
from emotalking.train.presets import preset
from emotalking.train.run import MESH_WARP, build_head, resolve_config
from emotalking.train.stages.emotion import EmotionStage

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def config(actor_subject: Subject) -> TrainConfig:
    few = [
        "model.face.initial_points=600",
        "model.mouth.initial_points=60",
        "audio_pretraining=0",
        "motion_pretraining=0",
        "audio_augmentation=false",
        "emotion.pretraining=60",
    ]
    return resolve_config(override(preset("tiny"), few), actor_subject)


def begun(config: TrainConfig, data: TrainingData) -> EmotionStage:
    generator = torch.Generator().manual_seed(0)
    context = Context(build_head(config, data, generator), data, config, generator)
    return EmotionStage(context, MESH_WARP.open(data))


@pytest.mark.usefixtures("unchecked")
def test_the_network_learns_the_moves_of_the_targets(config: TrainConfig, data: TrainingData) -> None:
    head = build_head(config, data, torch.Generator().manual_seed(0))
    maker, generator = MESH_WARP.open(data), torch.Generator().manual_seed(1)
    assert isinstance(maker, MeshWarp)
    assert pretrain_emotion(head, data, maker, 100, generator, 1.0) > 0.4  # .45 after so few
    assert all(part.grad is None for part in head.parameters())
    lost = replace(data, points=torch.full_like(data.points, torch.nan))
    assert pretrain_emotion(head, lost, maker, 60, generator, 1.0) == 0.0


@pytest.mark.usefixtures("unchecked")
def test_small_moves_are_learned_as_well_as_large_ones(config: TrainConfig, data: TrainingData) -> None:
    head = build_head(config, data, torch.Generator().manual_seed(0))
    maker = MESH_WARP.open(data)
    assert isinstance(maker, MeshWarp) and head.emotion is not None and data.shape is not None
    pretrain_emotion(head, data, maker, 150, torch.Generator().manual_seed(1), 1.0)
    lips, angles = data.shape[list(data.layout.lips_outer)], torch.arange(16) * (torch.pi / 8)
    ring = 0.8 * torch.stack([angles.cos(), angles.sin()], 1)
    made = maker.fields_at(lips).moves(maker.coefficients(ring, data.points[:1].expand(16, -1, -1)))
    missed = head.emotion(lips[None], ring)["d_means"] - made
    # Of each emotion's own moves, those of a surprised mouth as those of a smile: .05 after so few.
    assert (missed.square().sum((1, 2)) / made.square().sum((1, 2))).mean() < 0.1


def test_a_stage_begins_with_it(config: TrainConfig, data: TrainingData) -> None:
    stage = begun(config, data)
    before = [part.clone() for part in stage.network.parameters()]
    stage.begin()
    assert not any(torch.equal(a, b) for a, b in zip(before, stage.network.parameters(), strict=True))
    none = begun(replace(config, emotion=replace(config.emotion, pretraining=0)), data)
    none.begin()
    assert all(torch.equal(a, b) for a, b in zip(before, none.network.parameters(), strict=True))


def test_a_stage_learns_at_its_share_of_the_rates(config: TrainConfig, data: TrainingData) -> None:
    stage = begun(replace(config, emotion=replace(config.emotion, rates=0.5)), data)
    stage.before_update(0)
    rates = {group["name"]: group["lr"] for group in stage.optimizers["networks"].param_groups}
    assert rates == {"grids": 0.5 * config.optim.grids, "networks": 0.5 * config.optim.networks}


def test_lips_and_eyes_are_compared_once_more(config: TrainConfig, data: TrainingData) -> None:
    stage = begun(config, data)
    key, inputs = stage.inputs(0)
    terms = stage.terms(key, inputs)
    assert inputs.target is not None and terms["lips"] > 0 and terms["eyes"] > 0
    clean = replace(config.emotion, losses=replace(config.emotion.losses, lips=0.0, eyes=0.0))
    fewer = begun(replace(config, emotion=clean), data)
    assert {"lips", "eyes"} == terms.keys() - fewer.terms(*fewer.inputs(0)).keys()
