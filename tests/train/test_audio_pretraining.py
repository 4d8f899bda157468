"""The head start of the audio encoders."""

import numpy as np
import torch

from emotalking.data import Subject
from emotalking.data.audio_features import DEFAULT_FEATURE
from emotalking.models.audio import AudioEncoder
from emotalking.train.audio_pretraining import lip_motion, pretrain_audio
from emotalking.train.data import TrainingData


def test_lip_motion_follows_the_mouth_and_not_the_pose(actor_subject: Subject) -> None:
    data = TrainingData.load(actor_subject, actor_subject.train_indices, DEFAULT_FEATURE, "cpu")
    motion = lip_motion(data)
    assert motion.shape == (data.count, 40)
    lower, upper = motion[:, 2 * 18 + 1], motion[:, 2 * 14 + 1]  # inner lips, middle, y down
    opening = (lower - upper).numpy()
    assert np.corrcoef(opening, data.mouth_opening)[0, 1] > 0.7
    data.points[3] = float("nan")
    lost = lip_motion(data)
    assert not lost[3].any() and bool(torch.isfinite(lost).all())
    data.shape = None
    assert lip_motion(data).shape == (data.count, 1)


def test_start_explains_the_lips_and_is_deterministic(actor_subject: Subject) -> None:
    data = TrainingData.load(actor_subject, actor_subject.train_indices, DEFAULT_FEATURE, "cpu")
    codes = []
    for _ in range(2):
        torch.manual_seed(0)
        encoder = AudioEncoder(32)
        explained = pretrain_audio(encoder, data, 120, torch.Generator().manual_seed(1))
        codes.append(encoder(data.conditions.audio).detach())
    assert explained > 0.3
    assert torch.equal(*codes)


def test_no_steps_change_nothing(actor_subject: Subject) -> None:
    data = TrainingData.load(actor_subject, actor_subject.train_indices, DEFAULT_FEATURE, "cpu")
    encoder = AudioEncoder(32)
    before = encoder(data.conditions.audio).detach()
    assert pretrain_audio(encoder, data, 0, torch.Generator()) == 0.0
    assert torch.equal(encoder(data.conditions.audio), before)
