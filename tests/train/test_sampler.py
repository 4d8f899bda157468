"""The sampler visits every frame once a round and its constraints cannot hang."""

import numpy as np
import torch

from emotalking.train.sampler import FrameSampler, blink_window, lips_part_window, opening_window


def test_every_frame_once_a_round() -> None:
    sampler = FrameSampler(7, torch.Generator().manual_seed(0))
    for _ in range(3):
        assert sorted(sampler.draw() for _ in range(7)) == list(range(7))


def test_constraint_is_met_or_ignored() -> None:
    sampler = FrameSampler(5, torch.Generator().manual_seed(0))
    only = np.array([False, False, True, False, False])
    assert {sampler.draw(only) for _ in range(10)} == {2}
    assert sampler.draw(np.zeros(5, bool)) in range(5)


def test_state_restores_the_queue() -> None:
    draw = torch.Generator().manual_seed(0)
    sampler = FrameSampler(9, draw)
    for _ in range(4):
        sampler.draw()
    other = FrameSampler(9, torch.Generator().manual_seed(5))
    other.load_state_dict(sampler.state_dict())
    assert [sampler.draw() for _ in range(5)] == [other.draw() for _ in range(5)]


def test_windows_slide() -> None:
    opening = np.linspace(0.0, 10.0, 101).astype(np.float32)
    early, late = opening_window(opening, 0.0), opening_window(opening, 0.6)
    assert opening[early].mean() < opening[late].mean()
    assert np.ptp(opening[late]) <= 4.01
    blink = np.linspace(0.0, 1.0, 11).astype(np.float32)
    assert blink[blink_window(blink, 0.5)].min() >= 0.35
    part = np.minimum(np.linspace(0.0, 3.0, 101), 2.85).astype(np.float32)
    assert (part[lips_part_window(part, None)] == part.max()).all()
    assert lips_part_window(part, 1.0).sum() > lips_part_window(part, 0.2).sum()
