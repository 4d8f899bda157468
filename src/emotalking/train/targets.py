"""What the model's emotional face is compared with: frames with a commanded emotion, made while training runs."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from emotalking.data.frame import emotion_share
from emotalking.emotion.generator import EmotionGenerator
from emotalking.train.data import TrainingData
from emotalking.train.sampler import FrameSampler

CUDA_BATCH = 8
"""Targets made in one call of the generator on a GPU, where a call costs the same for one frame as for eight."""


@dataclass(frozen=True)
class Plan:
    """What a step will compare with."""

    frame: int
    va: tuple[float, float] | None
    """Commanded valence and arousal; None: the original frame with its own."""


@dataclass(frozen=True)
class Target:
    """A plan with its picture."""

    frame: int
    image: Float[Tensor, "1 H W 3"]
    labels: UInt8[Tensor, "1 H W"]
    va: Float[Tensor, "1 2"]
    normals: Float[Tensor, "1 H W 3"] | None = None
    """In camera space, zero where unknown; None where none were asked for or the subject has none."""
    made: torch.cuda.Event | None = None
    """When it is there, if it is made aside."""


def original(data: TrainingData, frame: int, *, normals: bool = False) -> Target:
    """The recorded frame with its own estimated valence and arousal, and with its ``normals`` if they are wanted."""
    pick = slice(frame, frame + 1)
    surface = data.normal_map(frame) if normals else None
    return Target(frame, data.image(frame), data.labels[pick], data.conditions.va[pick], surface)


class EmotionalTargets:
    """A new (frame, valence, arousal) for every step; frames without replacement, valence and arousal uniform.

    Frames in which no face was found are left out.

    Deviation: the emotion fades as the face turns away (`data.frame.emotion_share`), as in `faces apply`; where
    nothing is left of it the frame is left out.

    Args:
        data: the training frames.
        maker: edits a frame to a commanded emotion.
        draw: generator of the draws.
        va_limit: valence and arousal lie in [-limit, limit].
        real_share: share of original frames.
        normals: give normal maps too, where the subject has them.
        ahead: on a GPU, make them while the steps before them run.
    """

    def __init__(
        self,
        data: TrainingData,
        maker: EmotionGenerator,
        draw: torch.Generator,
        *,
        va_limit: float | int,
        real_share: float | int = 0.0,
        normals: bool = False,
        ahead: bool = False,
    ) -> None:
        self._data, self._maker, self._draws = data, maker, draw
        self._va_limit, self._real_share, self._normals = va_limit, real_share, normals
        # Without landmarks no expression can be given to a frame.
        found = torch.isfinite(data.points).flatten(1).all(1).cpu().numpy()
        self._share = emotion_share(data.conditions.viewmats.cpu().numpy())
        self._sampler = FrameSampler(data.count, draw, found & (self._share > 0))
        self._plans: list[Plan] = []
        """Of the steps to come, drawn already."""
        self._ready: list[Target] = []
        """Targets of the first of these plans."""
        self._batch = CUDA_BATCH if data.device.type == "cuda" else 1
        self._aside: torch.cuda.Stream | None = None
        if data.device.type == "cuda" and ahead:
            self._aside = torch.cuda.Stream(data.device)
            self._aside.wait_stream(torch.cuda.current_stream(data.device))

    def next(self) -> Target:
        """What the next step compares with. If they are to be ``ahead``, the next ones are made meanwhile."""
        if self._aside is None:
            self._refill(left=0)
        else:
            with torch.cuda.stream(self._aside):
                self._refill(left=self._batch // 2)
        self._plans = self._plans[1:]
        target = self._ready.pop(0)
        if self._aside is not None:
            self._take_over(target)
        return target

    def _refill(self, left: int) -> None:
        """Where no more than ``left`` are ready, a batch more.

        Those of a resumed run's plans first, alone: the run draws when it would have drawn.
        """
        if len(self._plans) > len(self._ready):
            self._ready += self._make(self._plans[len(self._ready) :])
        if len(self._ready) <= left:
            fresh = [self._draw() for _ in range(self._batch)]
            self._plans += fresh
            self._ready += self._make(fresh)

    def _take_over(self, target: Target) -> None:
        """Let the stream of the training steps use what was made aside."""
        stream = torch.cuda.current_stream(self._data.device)
        if target.made is not None:
            stream.wait_event(target.made)
        for picture in (target.image, target.labels, target.va, target.normals):
            if picture is not None:
                picture.record_stream(stream)

    def _draw(self) -> Plan:
        frame, draw = self._sampler.draw(), self._draws
        if float(torch.rand(1, generator=draw)) < self._real_share:
            return Plan(frame, None)
        valence, arousal = ((torch.rand(2, generator=draw) * 2.0 - 1.0) * self._va_limit).tolist()
        share = float(self._share[frame])
        return Plan(frame, (valence * share, arousal * share))

    def _make(self, plans: list[Plan]) -> list[Target]:
        """The plans' targets, all generated ones in one call."""
        data = self._data
        wanted = [plan for plan in plans if plan.va is not None]
        made: dict[Plan, Target] = {}
        if wanted:
            frames = torch.tensor([plan.frame for plan in wanted], device=data.device)
            va = torch.tensor([plan.va for plan in wanted], device=data.device)
            with torch.no_grad():
                faces = self._maker(
                    data.images[frames].float() / 255.0,
                    data.points[frames],
                    data.labels[frames],
                    data.conditions.viewmats[frames],
                    va,
                    data.normal_map(frames) if self._normals else None,
                )
            if faces.kept is not None:  # Such a frame shows its own emotion.
                va = torch.where(faces.kept[:, None], data.conditions.va[frames], va)
            for row, plan in enumerate(wanted):
                pick = slice(row, row + 1)
                surface = None if faces.normals is None else faces.normals[pick]
                made[plan] = Target(plan.frame, faces.images[pick], faces.labels[pick], va[pick], surface)
        targets = [made[plan] if plan in made else original(data, plan.frame, normals=self._normals) for plan in plans]
        if self._aside is None:
            return targets
        event = self._aside.record_event()
        return [replace(target, made=event) for target in targets]

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs; pictures are made again."""
        plans = [(plan.frame, plan.va) for plan in self._plans]
        return {"sampler": self._sampler.state_dict(), "plans": plans}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""
        self._sampler.load_state_dict(state["sampler"])
        self._plans, self._ready = [Plan(frame, va) for frame, va in state["plans"]], []
