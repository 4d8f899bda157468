"""Frames whose eyes look elsewhere than recorded."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from emotalking.data import Subject
from emotalking.data.audio_features import DEFAULT_FEATURE
from emotalking.testing.actor.actor import Actor
from emotalking.testing.actor.performance import Performance
from emotalking.testing.actor_subject import write_actor_subject
from emotalking.train.data import TrainingData, eye_boxes
from emotalking.train.glances import BEYOND, Glances, sideways
from emotalking.train.motion_pretraining import convex_eyes

LOOKS = ((0.0, 0.0), (0.25, 0.0), (-0.25, 0.0))
BLINK = 3


@pytest.fixture(scope="module")
def looking(tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    """One moment of the actor with eyes to the front, right and left, and in a blink."""
    script, actor = Performance.generate(0.2, seed=3), Actor(size=160)
    still = replace(script.states[0], aus={})
    states = [replace(still, gaze=look) for look in LOOKS] + [replace(still, aus={"AU45": 2.0})]
    subject = write_actor_subject(
        tmp_path_factory.mktemp("looking") / "subject",
        (actor.render(state) for state in states),
        script.waveform,
        Fraction(25),
        actor.layout,
        actor.neutral_landmarks(),
    )
    data = TrainingData.load(subject, np.arange(len(states)), DEFAULT_FEATURE, "cpu")
    assert data.shape is not None
    data.shape = convex_eyes(data.shape, data.layout)
    return data


def error(data: TrainingData, image: torch.Tensor, frame: int) -> float:
    top, left, bottom, right = eye_boxes(data)[0].tolist()
    return float((image - data.image(frame))[:, top:bottom, left:right].square().mean())


@pytest.mark.parametrize("frame", [1, 2])
def test_turned_eyes_look_as_if_they_had_been_recorded_so(looking: TrainingData, frame: int) -> None:
    gaze = looking.conditions.gaze
    assert gaze is not None
    turned = Glances(looking, 0.3).turned(0, gaze[frame] - gaze[0])
    assert error(looking, turned, frame) < 0.35 * error(looking, looking.image(0), frame)
    away = torch.ones(turned.shape[:3], dtype=torch.bool)
    top, left, bottom, right = eye_boxes(looking)[0].tolist()
    away[:, top:bottom, left:right] = False
    assert torch.equal(turned[away], looking.image(0)[away]), "nothing changes but the eyes"


def test_eyes_that_are_not_turned_and_closed_ones_stay(looking: TrainingData) -> None:
    glances = Glances(looking, 0.3)
    assert float((glances.turned(0, torch.zeros(2)) - looking.image(0)).abs().max()) < 1e-3
    assert float((glances.turned(BLINK, torch.tensor([0.3, 0.0])) - looking.image(BLINK)).abs().max()) < 0.02


class HostReads(TorchDispatchMode):
    """Names of operations that a CUDA graph cannot capture, because the host gives or waits for numbers in them."""

    WAITING = ("lift_fresh", "_local_scalar_dense", "nonzero", "_to_copy", "masked_select", "copy_")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in self.WAITING and not (name == "_to_copy" and set(kwargs or {}) <= {"dtype"}):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def test_a_graph_can_capture_it(looking: TrainingData) -> None:
    glances, frame = Glances(looking, 0.3), torch.tensor([0])
    with HostReads() as reads:
        glances.turned(frame, torch.zeros(2))
    assert reads.found == []
    with HostReads() as reads:
        frame[frame > 0] * torch.tensor(2.0)
    assert reads.found, "such operations are noticed"


def test_a_share_of_frames_looks_anywhere_sideways() -> None:
    gaze = torch.tensor([[0.1, -0.05]]).repeat(4000, 1)
    turned = sideways(gaze, 0.3, 0.25, torch.Generator().manual_seed(0))
    moved = turned[:, 0] != gaze[:, 0]
    assert torch.equal(turned[:, 1], gaze[:, 1]) and 0.22 < float(moved.float().mean()) < 0.28
    places = turned[moved, 0]
    assert float(places.abs().max()) <= 0.3 * BEYOND and float(places.min()) < -0.3 and float(places.max()) > 0.3


def test_a_frame_without_a_face_keeps_its_eyes(actor_subject: Subject) -> None:
    data = TrainingData.load(actor_subject, actor_subject.train_indices, DEFAULT_FEATURE, "cpu")
    data.points[4] = float("nan")
    glances, generator = Glances(data, 0.3), torch.Generator().manual_seed(0)
    drawn = torch.stack([torch.stack([glances.draw(frame, generator) for _ in range(60)]) for frame in (3, 4)])
    assert 5 < int((drawn[0] != 0).any(1).sum()) < 30 and not drawn[1].any()
    assert torch.isfinite(glances.turned(4, torch.zeros(2))).all()
    assert Glances.of(data, 0.0) is None
