"""The learned code of closed lips."""

from dataclasses import replace

import numpy as np
import torch

from emotalking.configs.presets import override, preset
from emotalking.subject import Subject
from emotalking.train.closed_lips import geometric_median, learn_closed_lips
from emotalking.train.data import TrainingData
from emotalking.train.run import build_head


def test_the_median_ignores_odd_ones() -> None:
    points = torch.randn(60, 4, generator=torch.Generator().manual_seed(0)) * 0.1 + 1.0
    points[:8] = 100.0
    assert float((geometric_median(points) - 1.0).norm()) < 0.1
    assert torch.allclose(geometric_median(points[:1]), points[0])


def test_it_comes_from_the_frames_with_closed_lips(actor_subject: Subject) -> None:
    config = override(preset("tiny"), ["motion_start=0"])
    data = TrainingData.load(actor_subject, actor_subject.train_indices, "mel", "cpu")
    head = build_head(config, data, torch.Generator().manual_seed(0))
    assert head.face.audio.closed is None
    learn_closed_lips(head, data)
    first = head.face.audio.closed
    assert first is not None and first.shape == (32,) and bool(torch.isfinite(first).all())
    # A lost track is not a closed mouth.
    opening = np.array(data.mouth_opening)
    widest = int(opening.argmax())
    opening[widest] = np.nan
    learn_closed_lips(head, replace(data, mouth_opening=opening))
    assert torch.equal(head.face.audio.closed, first)
    # What counts is the opening: with other frames closed, the code is another one.
    learn_closed_lips(head, replace(data, mouth_opening=-opening))
    assert not torch.allclose(head.face.audio.closed, first)
