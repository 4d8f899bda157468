"""Images that stay in the subject folder are the same as those in memory."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from emotalking.data import Subject
from emotalking.data.audio_features import DEFAULT_FEATURE
from emotalking.data.labels import Label
from emotalking.train import images as frames
from emotalking.train import run
from emotalking.train.data import TrainingData, class_mask
from emotalking.train.images import StoredFrames

from .small import small

pytestmark = pytest.mark.usefixtures("one_thread", "unchecked")

KEYS = [
    3,
    slice(2, 5),
    torch.tensor([6, 1, 6]),
    (torch.tensor([0, 7]), slice(3, 20), slice(5, 9)),
    (slice(1, 2), slice(None), slice(None), slice(0, 3)),
    (4, slice(10, 12)),
]


@pytest.mark.parametrize("key", KEYS)
def test_every_way_to_index(actor_subject: Subject, monkeypatch: pytest.MonkeyPatch, key) -> None:
    indices = np.array([5, 2, 9, 11, 0, 30, 31, 7])
    held = TrainingData.load(actor_subject, indices, DEFAULT_FEATURE, "cpu", normals=True)
    monkeypatch.setattr(frames, "MEMORY_BYTES", 0)
    stored = TrainingData.load(actor_subject, indices, DEFAULT_FEATURE, "cpu", normals=True)
    assert torch.equal(stored.labels, held.labels)
    assert (stored.count, stored.size, stored.device) == (held.count, held.size, held.device)
    assert torch.equal(stored.coverage[torch.tensor([6, 1])], held.coverage[torch.tensor([6, 1])])
    for name in ("images", "torso", "normals"):
        ours, theirs = getattr(stored, name), getattr(held, name)
        assert isinstance(ours, StoredFrames) and isinstance(theirs, Tensor)
        assert torch.equal(ours[key], theirs[key])


def test_chunks_do_not_show(actor_subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = TrainingData.load(actor_subject, np.arange(11), DEFAULT_FEATURE, "cpu")
    monkeypatch.setattr(frames, "CHUNK", 4)
    parts = TrainingData.load(actor_subject, np.arange(11), DEFAULT_FEATURE, "cpu")
    for name in ("images", "torso", "labels", "coverage"):
        assert torch.equal(getattr(whole, name), getattr(parts, name))


def test_a_run_is_the_same(actor_subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = small("face.losses.normal=0.05", "emotion.losses.normal=0.05", steps=3, pretraining=2)
    held = run.train(actor_subject.files.root, tmp_path / "held.safetensors", "tiny", "cpu", settings)
    monkeypatch.setattr(frames, "MEMORY_BYTES", 0)
    stored = run.train(actor_subject.files.root, tmp_path / "stored.safetensors", "tiny", "cpu", settings)
    again = stored.avatar.head.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in held.avatar.head.state_dict().items())
    assert held.avatar.scene.torso.data.tobytes() == stored.avatar.scene.torso.data.tobytes()


def test_a_head_cut_out_gives_its_frame_over_what_was_behind_it(actor_subject: Subject) -> None:
    open_mouth = max(
        range(actor_subject.num_frames), key=lambda i: np.count_nonzero(actor_subject.masks(i).labels == Label.MOUTH)
    )
    data = TrainingData.load(actor_subject, np.array([0, open_mouth]), DEFAULT_FEATURE, "cpu")
    cut, covered = data.cut_out(1, data.image(1))
    labels = data.labels[1]
    mouth, outline = labels == int(Label.MOUTH), (data.coverage[1] > 0) & (data.coverage[1] < 255)
    assert bool(mouth.any()) and not bool(covered[0][mouth].any()) and int(outline.sum()) > 50
    again = cut + data.behind(1) * (1 - covered[..., None])
    error, hard = (again - data.image(1))[0].abs().mean(-1), (data.behind(1) - data.image(1))[0].abs().mean(-1)
    assert float(error[~mouth].max()) < 0.25 and float(error[outline].mean()) < 0.01
    beyond = outline & ~class_mask(labels, Label.HEAD, Label.HAIR, Label.MOUTH)
    assert float(error[beyond].mean()) < 0.3 * float(hard[beyond].mean()), (error[beyond].mean(), hard[beyond].mean())
