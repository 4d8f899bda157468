"""The head start of the audio encoders."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from emotalking.audio.features import write_features
from emotalking.audio.windows import PAST_FRAMES
from emotalking.data import Subject
from emotalking.data.audio_features import DEFAULT_FEATURE, audio_feature
from emotalking.errors import MissingModelError
from emotalking.io.audio import load_audio
from emotalking.models.audio import ConvEncoder, PublishedEncoder
from emotalking.train import audio_augmentation
from emotalking.train.audio_augmentation import (
    LIVE_WEIGHT,
    LOOK_AHEADS_MS,
    augmented_examples,
    other_voice,
    silent_examples,
)
from emotalking.train.audio_pretraining import CONV, _mask, lip_motion, pretrain_audio
from emotalking.train.data import TrainingData
from emotalking.train.stages.finetune import closed_frames


@pytest.fixture(scope="module")
def subject(actor_subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """The actor with log-mel features too."""
    copy = tmp_path_factory.mktemp("mel") / "subject"
    shutil.copytree(actor_subject.files.root, copy)
    files = Subject.open(copy).files
    write_features(files.audio_features("mel"), files.audio, "mel", actor_subject.num_frames, actor_subject.fps)
    return Subject.open(copy)


def conv_encoder(name: str) -> ConvEncoder:
    feature = audio_feature(name)
    return ConvEncoder(feature.channels, steps=feature.steps)


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


def test_start_explains_the_lips(subject: Subject) -> None:
    data = TrainingData.load(subject, subject.train_indices, "mel", "cpu")
    torch.manual_seed(0)
    encoder = PublishedEncoder(audio_feature("mel").channels)
    assert pretrain_audio(encoder, data, 120, torch.Generator().manual_seed(1)) > 0.3


@pytest.mark.parametrize("name", ["mel", DEFAULT_FEATURE])
def test_no_steps_change_nothing(subject: Subject, name: str) -> None:
    data = TrainingData.load(subject, subject.train_indices, name, "cpu")
    encoder = PublishedEncoder(audio_feature(name).channels)
    before = encoder(data.conditions.audio).detach()
    assert pretrain_audio(encoder, data, 0, torch.Generator()) == 0.0
    assert torch.equal(encoder(data.conditions.audio), before)


@pytest.mark.parametrize("name", ["mel", DEFAULT_FEATURE])
def test_conv_encoder_learns_with_other_voices(subject: Subject, name: str) -> None:
    data = TrainingData.load(subject, subject.train_indices, name, "cpu")
    examples = augmented_examples(subject, data.indices, name, "cpu")
    assert len(examples) == 5 + len(LOOK_AHEADS_MS) * LIVE_WEIGHT
    torch.manual_seed(0)
    encoder = conv_encoder(name)
    assert pretrain_audio(encoder, data, 120, torch.Generator().manual_seed(1), examples) > 0.3


@pytest.mark.parametrize("encoder", [PublishedEncoder, ConvEncoder])
def test_start_is_deterministic(subject: Subject, encoder: type[PublishedEncoder] | type[ConvEncoder]) -> None:
    data = TrainingData.load(subject, subject.train_indices, "mel", "cpu")
    examples = augmented_examples(subject, data.indices, "mel", "cpu")
    codes = []
    for _ in range(2):
        torch.manual_seed(0)
        made = encoder(audio_feature("mel").channels)
        assert pretrain_audio(made, data, 8, torch.Generator().manual_seed(1), examples) != 0.0
        codes.append(made(data.conditions.audio).detach())
    assert torch.equal(*codes)


@pytest.mark.parametrize("name", ["mel", DEFAULT_FEATURE])
def test_no_steps_standardise_the_features(subject: Subject, name: str) -> None:
    data = TrainingData.load(subject, subject.train_indices, name, "cpu")
    encoder = conv_encoder(name)
    pretrain_audio(encoder, data, 0, torch.Generator())
    assert abs(float(encoder.timeline(data.conditions.audio).mean())) < 0.05
    assert not torch.equal(encoder.scale, torch.ones_like(encoder.scale))


def test_masks_hide_a_stretch_and_some_channels() -> None:
    seen = _mask(torch.Size((4000, 32, 10)), CONV, torch.Generator().manual_seed(0))
    hidden = ~seen.any(2)  # whole channels
    some = seen.any(1).all(1)  # windows without a time mask
    assert torch.equal(hidden[some].sum(1), torch.full((int(some.sum()),), 4))
    assert 0.02 < 1 - float(seen.any(1).float().mean()) < 0.08
    assert 0.0 < 1 - float(some.float().mean()) < 0.25


@pytest.mark.parametrize("name", ["mel", DEFAULT_FEATURE])
def test_augmented_examples_follow_the_tempo(actor_subject: Subject, name: str) -> None:
    indices, (steps, channels) = actor_subject.train_indices, audio_feature(name).shape
    slow, quick, low, high, noisy, *_ = augmented_examples(actor_subject, indices, name, "cpu")
    assert len(slow.windows) > len(noisy.windows) > len(quick.windows)
    motion = torch.arange(len(indices), dtype=torch.float32)[:, None]
    for example, speed in ((slow, 0.9), (quick, 1.1), (low, 1.0), (high, 1.0), (noisy, 1.0)):
        rows = example.targets(motion)[:, 0]
        assert torch.allclose(rows.diff(), torch.full((len(rows) - 1,), speed), atol=1e-4)
        assert float(rows[-1]) <= len(indices) - 1 and example.windows.shape[1:] == (8, channels, steps)


def test_live_examples_lack_the_sound_that_comes_later(actor_subject: Subject) -> None:
    data = TrainingData.load(actor_subject, actor_subject.train_indices, DEFAULT_FEATURE, "cpu")
    *_, soon, late = augmented_examples(actor_subject, data.indices, DEFAULT_FEATURE, "cpu")
    assert soon.rows[:3].tolist() == [0, 4, 8] and late.rows[:3].tolist() == [1, 5, 9]
    whole = data.conditions.audio
    for example, known in ((soon, 2), (late, 4)):  # frames of 40 ms after the window's own
        rows, missing = example.rows.long(), example.windows[1:, PAST_FRAMES + 1 + known :]
        assert not missing.any()
        here, there = example.windows[1:, PAST_FRAMES], whole[rows[1:], PAST_FRAMES]
        assert 0 < float((here - there).square().mean()) < 0.5 * float(there.square().mean())
    # With more sound to come they are nearer to the whole recording's.
    errors = [(each.windows[1:, :5] - whole[each.rows.long()[1:], :5]).square().mean() for each in (soon, late)]
    assert errors[1] < errors[0]


def test_other_voice_keeps_the_tempo_and_moves_the_pitch() -> None:
    t = np.arange(32000) / 16000
    loud = (np.sin(2 * np.pi * 2 * t) > 0).astype(np.float32)
    for factor in (0.87, 1.15):
        made = other_voice(np.sin(2 * np.pi * 300 * t).astype(np.float32), factor)
        spectrum = np.abs(np.fft.rfft(made[4000:20000] * np.hanning(16000)))
        assert len(made) == 32000 and spectrum.argmax() == pytest.approx(300 * factor, abs=2)
        beats = other_voice((loud * np.sin(2 * np.pi * 300 * t)).astype(np.float32), factor)
        envelope = np.abs(beats).reshape(-1, 800).mean(1)
        assert np.corrcoef(envelope, loud.reshape(-1, 800).mean(1))[0, 1] > 0.9


def test_features_of_whole_recordings_have_no_live_examples(actor_subject: Subject) -> None:
    samples = load_audio(actor_subject.files.audio)
    assert audio_augmentation._live_examples(actor_subject, np.arange(8), "phones", "cpu", samples) == []
    few = audio_augmentation._live_examples(actor_subject, np.arange(1), "mel", "cpu", samples)
    assert [example.rows.tolist() for example in few] == [[0.0]] * LIVE_WEIGHT


def test_without_sound_or_package_there_are_none(
    actor_subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    indices = actor_subject.train_indices
    assert augmented_examples(actor_subject, indices, "deepspeech", "cpu") == []

    def missing(*_: object) -> None:
        raise MissingModelError("install it")

    monkeypatch.setattr(audio_augmentation, "feature_track", missing)
    assert augmented_examples(actor_subject, indices, "mel", "cpu") == []
    copy = tmp_path / "copy"
    shutil.copytree(actor_subject.files.root, copy)
    (copy / "aud.wav").unlink()
    assert augmented_examples(Subject.open(copy), indices, "mel", "cpu") == []


@pytest.mark.usefixtures("unchecked")
def test_silence_closes_the_lips(actor_subject: Subject) -> None:
    data = TrainingData.load(actor_subject, actor_subject.train_indices, DEFAULT_FEATURE, "cpu")
    closed = closed_frames(data)
    examples = silent_examples(data.conditions.audio, closed)
    motion = lip_motion(data)
    assert torch.equal(examples.targets(motion), motion[closed]) and not examples.windows.any()
    feature = audio_feature(DEFAULT_FEATURE)
    distances = []
    for extra in ([], [examples]):
        torch.manual_seed(0)
        encoder = ConvEncoder(feature.channels, 32, feature.steps)
        pretrain_audio(encoder, data, 100, torch.Generator().manual_seed(1), extra)
        with torch.no_grad():
            codes, silent = encoder(data.conditions.audio), encoder(examples.windows[:1])
        distances.append(float((silent - codes[closed].mean(0)).norm() / codes.std(0).norm()))
    assert distances[1] < 0.5 * distances[0]  # .04 and .22
