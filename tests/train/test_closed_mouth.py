"""The learned codes of closed lips."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from emotalking.io.settings import override
from emotalking.models.head import TalkingHead
from emotalking.ops.composite import to_uint8
from emotalking.train.data import TrainingData
from emotalking.train.presets import preset
from emotalking.train.run import build_head
from emotalking.train.stage_renderer import StageRenderer
from emotalking.train.stages import finetune as closed_lips
from emotalking.train.stages.finetune import closed_frames, difference, geometric_median, learn_closed_mouth_codes

FEW = ["model.face.initial_points=300", "model.mouth.initial_points=60", "audio_pretraining=0", "motion_pretraining=0"]


@pytest.fixture
def head(data: TrainingData) -> TalkingHead:
    return build_head(override(preset("tiny"), FEW), data, torch.Generator().manual_seed(0))


def test_the_median_ignores_odd_ones() -> None:
    points = torch.randn(60, 4, generator=torch.Generator().manual_seed(0)) * 0.1 + 1.0
    points[:8] = 100.0
    assert float((geometric_median(points) - 1.0).norm()) < 0.1
    assert torch.allclose(geometric_median(points[:1]), points[0])


def test_it_begins_with_the_frames_with_closed_lips(data: TrainingData, head: TalkingHead) -> None:
    assert head.face.audio.closed is None
    learn_closed_mouth_codes(head, data, 0)
    first = head.face.audio.closed
    assert first is not None and first.shape == (32,) and bool(torch.isfinite(first).all())
    # A lost track is not a closed mouth.
    opening = np.array(data.mouth_opening)
    widest = int(opening.argmax())
    opening[widest] = np.nan
    learn_closed_mouth_codes(head, replace(data, mouth_opening=opening), 0)
    assert torch.equal(head.face.audio.closed, first)
    # What counts is the opening: with other frames closed, the code is another one.
    learn_closed_mouth_codes(head, replace(data, mouth_opening=-opening), 0)
    assert not torch.allclose(head.face.audio.closed, first)


def test_the_codes_learn_from_the_pictures_of_closed_lips(
    data: TrainingData, head: TalkingHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    for encoder in (head.face.audio, head.mouth.audio):
        encoder.project.weight.data.mul_(10.0)  # a new encoder's codes hardly differ
    learn_closed_mouth_codes(head, data, 0)
    begin = [encoder.closed for encoder in (head.face.audio, head.mouth.audio)]
    seen = set()

    def distance(head: TalkingHead, data: TrainingData, frame: int) -> Tensor:
        """Of the codes from the one that would close the lips: 0.3 further in each value."""
        seen.add(frame)
        codes = (head.face.audio.closed, head.mouth.audio.closed)
        return sum((code - was - 0.3).square().mean() for code, was in zip(codes, begin, strict=True))

    monkeypatch.setattr(closed_lips, "difference", distance)
    learn_closed_mouth_codes(head, data, 60)
    assert seen <= set(closed_frames(data).tolist()) and len(seen) > 1
    for encoder, was in zip((head.face.audio, head.mouth.audio), begin, strict=True):
        assert encoder.closed is not None and not encoder.closed.requires_grad
        assert float((encoder.closed - was - 0.3).abs().max()) < 0.1


def test_the_picture_of_the_codes_themselves_is_no_different(data: TrainingData, head: TalkingHead) -> None:
    learn_closed_mouth_codes(head, data, 0)
    frame = int(closed_frames(data)[0])
    against_recording = float(difference(head, data, frame))
    renderer = StageRenderer(data)
    renderer.begin(head)
    for encoder in (head.face.audio, head.mouth.audio):  # the sound of the frame makes the same codes
        encoder.closed = encoder(data.conditions.audio[frame : frame + 1])[0].detach()
    made = renderer.render(head, "finetune", frame, renderer.whole, va=None).rgb
    images = data.images.clone()
    images[frame] = torch.from_numpy(to_uint8(made))
    against_itself = float(difference(head, replace(data, images=images), frame))
    assert against_itself < 0.05 * against_recording
