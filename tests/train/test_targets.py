"""Emotional targets: what is drawn does not depend on when pictures are made, or on where a run was cut."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from emotalking.data import Subject
from emotalking.data.audio_features import DEFAULT_FEATURE
from emotalking.data.frame import emotion_share
from emotalking.data.labels import Label
from emotalking.emotion.generator import GeneratedFaces
from emotalking.ops.box import Box
from emotalking.train.data import TrainingData, class_mask, face_boxes
from emotalking.train.run import emotion_generator
from emotalking.train.targets import EmotionalTargets, Target


class Tint:
    """Gives each picture the colour of its emotion."""

    name = "tint"

    def __call__(self, images: Tensor, landmarks: Tensor, labels: Tensor, viewmats: Tensor, va: Tensor, *_: Any):
        colour = torch.cat([va, va.new_zeros(len(va), 1)], 1) * 0.5 + 0.5
        return GeneratedFaces(colour[:, None, None].expand_as(images).clone(), labels, landmarks)


def targets(data: TrainingData, draw: torch.Generator, batch: int, **options: Any) -> EmotionalTargets:
    made = EmotionalTargets(data, Tint(), draw, va_limit=1.0, real_share=0.3, **options)
    made._batch = batch
    return made


def taken(source: EmotionalTargets, draw: torch.Generator, steps: int) -> list[tuple[int, Target, float]]:
    """Targets of ``steps`` steps, between which the run draws other things, too."""
    return [(*source.draw(0), float(torch.rand(1, generator=draw))) for _ in range(steps)]


@pytest.mark.parametrize("cut", [1, 5, 8, 10, 16])
def test_a_run_cut_anywhere_goes_on_as_it_would_have(data: TrainingData, cut: int) -> None:
    draw = torch.Generator().manual_seed(4)
    whole = targets(data, draw, batch=8)
    taken(whole, draw, cut)
    state, drawn = whole.state_dict(), draw.get_state()
    wanted = taken(whole, draw, 20)
    again = torch.Generator()
    again.set_state(drawn)
    resumed = targets(data, again, batch=8)
    resumed.load_state_dict(state)
    for (frame, ours, mine), (same, theirs, its) in zip(wanted, taken(resumed, again, 20), strict=True):
        assert frame == same and mine == its
        assert torch.equal(ours.va, theirs.va) and torch.equal(ours.image, theirs.image)


def test_a_frame_that_could_not_be_edited_has_its_own_emotion(data: TrainingData) -> None:
    class Unable(Tint):
        def __call__(self, images: Tensor, landmarks: Tensor, labels: Tensor, *_: Any) -> GeneratedFaces:
            return GeneratedFaces(images, labels, landmarks, kept=torch.ones(len(images), dtype=torch.bool))

    draw = torch.Generator().manual_seed(0)
    for _ in range(5):
        frame, target = EmotionalTargets(data, Unable(), draw, va_limit=1.0).draw(0)
        assert torch.equal(target.va[0], data.conditions.va[frame])


def test_targets_are_cut_out_by_their_coverage(data: TrainingData) -> None:
    class Same(Tint):
        def __call__(self, images: Tensor, landmarks: Tensor, labels: Tensor, *rest: Any) -> GeneratedFaces:
            return GeneratedFaces(images, labels, landmarks, coverage=rest[-1])

    draw = torch.Generator().manual_seed(0)
    for soft in (True, False):
        source = EmotionalTargets(data, Same(), draw, va_limit=1.0, real_share=0.5, soft_outline=soft)
        for _ in range(6):
            frame, target = source.draw(0)
            colours, covered = target.cut_out()
            head = class_mask(data.labels[frame : frame + 1], Label.HEAD, Label.HAIR).float()
            wanted = data.cut_out(frame, data.image(frame)) if soft else (data.image(frame) * head[..., None], head)
            torch.testing.assert_close(colours, wanted[0])
            torch.testing.assert_close(covered, wanted[1])


def test_the_emotion_fades_as_the_face_turns(data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    turned = replace(data, conditions=replace(data.conditions, viewmats=data.conditions.viewmats.clone()))
    for frame, degrees in ((0, 46.0), (1, 75.0)):
        spin = torch.from_numpy(Rotation.from_euler("y", degrees, degrees=True).as_matrix()).float()
        turned.conditions.viewmats[frame, :3, :3] = turned.conditions.viewmats[frame, :3, :3] @ spin
    share = emotion_share(turned.conditions.viewmats.numpy())
    assert 0.2 < share[0] < 0.8 and share[1] == 0 and (share[2:] == 1).all()
    draw = torch.Generator().manual_seed(0)
    source = targets(turned, draw, batch=1)
    drawn = [(frame, float(target.va.abs().max())) for frame, target, _ in taken(source, draw, 200)]
    assert 1 not in {frame for frame, _ in drawn}
    strongest = {wanted: max(strength for frame, strength in drawn if frame == wanted) for wanted in (0, 2)}
    assert strongest[0] <= share[0] < strongest[2]


def test_a_frame_whose_face_was_lost_is_no_target(actor_subject: Subject) -> None:
    track = actor_subject.landmarks
    lost = actor_subject.train_indices[::2]
    track.detected[lost] = False
    try:
        partly = TrainingData.load(actor_subject, actor_subject.train_indices, DEFAULT_FEATURE, "cpu")
    finally:
        track.detected[lost] = True
    assert np.isnan(partly.points.numpy()).all((1, 2)).tolist() == np.isin(partly.indices, lost).tolist()
    assert np.isnan(partly.mouth_opening).tolist() == np.isin(partly.indices, lost).tolist()
    draw = torch.Generator().manual_seed(0)
    frames = {frame for frame, _, _ in taken(targets(partly, draw, batch=1), draw, 40)}
    assert frames and not np.isin(partly.indices[sorted(frames)], lost).any()


def test_what_lies_outside_the_boxes_does_not_matter(data: TrainingData) -> None:
    boxes = face_boxes(data.points, data.size)
    whole, boxed = (
        EmotionalTargets(data, emotion_generator(data), torch.Generator().manual_seed(5), va_limit=1.0, **more)
        for more in ({"real_share": 0.3}, {"real_share": 0.3, "boxes": boxes})
    )
    for _ in range(8):
        (frame, wanted), (same, target) = whole.draw(0), boxed.draw(0)
        assert frame == same and torch.equal(target.va, wanted.va)
        wanted = wanted.inside(Box(*boxes[frame].tolist()))
        assert target.image.shape == wanted.image.shape != data.image(frame).shape
        for ours, theirs in zip(target.cut_out(), wanted.cut_out(), strict=True):
            assert (ours - theirs).abs().mean() < 1e-3
