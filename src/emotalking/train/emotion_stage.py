"""The emotion stage: the emotion network learns from generated emotional frames and original ones (S15)."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.optim import Optimizer

from emotalking.generator.protocol import EmotionGenerator
from emotalking.losses.image import d_ssim, l1
from emotalking.losses.motion import motion_size
from emotalking.models.head import render_layer
from emotalking.subject.layouts import Label
from emotalking.train.data import class_mask
from emotalking.train.optim import FactorSchedule, network_factor, network_optimizer
from emotalking.train.sampler import FrameSampler
from emotalking.train.stages import Context, backdrop, pasted

CUDA_BATCH = 8
"""Targets made in one call of the generator on a GPU, where a call costs the same for one frame as for eight."""

MARGIN = 0.12
"""The compared box is this share of the face's width and height larger than its landmarks, on each side."""


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
    head: Bool[Tensor, "1 H W"]
    va: Float[Tensor, "1 2"]


def face_boxes(points: Float[Tensor, "F K 2"], size: tuple[int, int]) -> list[list[int]]:
    """left, top, right, bottom in pixels of each frame's landmarks, grown by `MARGIN`, inside the frame."""
    low, high = points.amin(1), points.amax(1)
    grow = MARGIN * (high - low)
    corner = points.new_tensor([size[0] - 2, size[1] - 2])
    low = torch.minimum((low - grow).floor().clamp_min(0), corner)
    high = torch.maximum(torch.minimum((high + grow).ceil(), corner + 2), low + 2)
    return torch.cat([low, high], 1).int().tolist()


class EmotionStage:
    """Only the emotion network trains; the face below it is frozen, so that switching it off changes nothing."""

    name = "emotion"

    def __init__(self, context: Context, generator: EmotionGenerator) -> None:
        """``generator`` makes the targets, a new (frame, valence, arousal) every step."""
        if context.head.emotion is None:
            raise ValueError("context.head has no emotion branch to train")
        self.context, self.generator = context, generator
        self.settings = context.config.emotion
        self.iterations = self.settings.iterations
        self.sampler = FrameSampler(context.data.count, context.generator)
        context.head.requires_grad_(False)
        self.network = context.head.emotion.requires_grad_(True)
        self.optimizers: dict[str, Optimizer] = {"networks": network_optimizer([self.network], context.config.optim)}
        self._schedule = FactorSchedule(self.optimizers["networks"])
        self._batch = CUDA_BATCH if context.data.device.type == "cuda" else 1
        self._plans: list[Plan] = []
        self._ready: list[Target] = []
        self._boxes = face_boxes(context.data.points, context.data.size)

    def _draw(self) -> Plan:
        frame, draw = self.sampler.draw(), self.context.generator
        if float(torch.rand(1, generator=draw)) < self.settings.real_share:
            return Plan(frame, None)
        valence, arousal = ((torch.rand(2, generator=draw) * 2.0 - 1.0) * self.settings.va_limit).tolist()
        return Plan(frame, (valence, arousal))

    def _make(self, plans: list[Plan]) -> list[Target]:
        """The plans' targets, all generated ones in one call."""
        data = self.context.data
        wanted = [plan for plan in plans if plan.va is not None]
        made: dict[Plan, Target] = {}
        if wanted:
            frames = torch.tensor([plan.frame for plan in wanted], device=data.device)
            va = torch.tensor([plan.va for plan in wanted], device=data.device)
            with torch.no_grad():
                faces = self.generator(
                    data.images[frames].float() / 255.0,
                    data.points[frames],
                    data.labels[frames],
                    data.conditions.viewmats[frames],
                    va,
                )
            head = class_mask(faces.labels, Label.HEAD, Label.HAIR)
            for row, plan in enumerate(wanted):
                pick = slice(row, row + 1)
                made[plan] = Target(plan.frame, faces.images[pick], head[pick], va[pick])
        return [made[plan] if plan in made else self._original(plan.frame) for plan in plans]

    def _original(self, frame: int) -> Target:
        data = self.context.data
        head = data.mask(frame, Label.HEAD, Label.HAIR)
        return Target(frame, data.image(frame), head, data.conditions.va[frame : frame + 1])

    def target(self) -> Target:
        """What the next step compares with."""
        if not self._ready:
            self._plans = self._plans or [self._draw() for _ in range(self._batch)]
            self._ready = self._make(self._plans)
        self._plans = self._plans[1:]
        return self._ready.pop(0)

    def losses(self, iteration: int) -> tuple[dict[str, Tensor], int]:
        """Image terms inside the face's box.

        Deviation: the paper compares the whole masked frame (S15). Outside the box a target is its source frame, so
        what is left there is the frozen face's own error, which the emotion network would spend itself on.
        """
        data, head, weights = self.context.data, self.context.head, self.settings.losses
        wanted = self.target()
        conditions = data.conditions.at(wanted.frame)
        with torch.no_grad():
            face = head.deform_face(conditions.audio, conditions.aus)
        emotional = head.add_emotion(face, wanted.va)
        left, top, right, bottom = self._boxes[wanted.frame]
        K = data.K - data.K.new_tensor([[0.0, 0.0, left], [0.0, 0.0, top], [0.0, 0.0, 0.0]])
        layer = render_layer(head.face.gaussians, emotional, conditions.viewmats, K, (right - left, bottom - top))
        colour = backdrop(self.context)
        rendered = layer.rgb + (1.0 - layer.alpha[..., None]) * colour
        window = (slice(None), slice(top, bottom), slice(left, right))
        target = pasted(wanted.image[window], wanted.head[window], colour)
        terms = {"l1": l1(rendered, target), "d_ssim": weights.d_ssim * d_ssim(rendered, target)}
        if weights.motion:
            terms["motion"] = weights.motion * motion_size(emotional.offsets)
        return terms, int(data.indices[wanted.frame])

    def before_update(self, iteration: int) -> None:
        """See :class:`emotalking.train.stages.Stage`."""
        self._schedule.set(network_factor(iteration, self.settings.schedule_knee, self.iterations))

    def after_update(self, iteration: int) -> None:
        """Nothing grows in this stage."""

    def state_dict(self) -> dict[str, Any]:
        """See :class:`emotalking.train.stages.Stage`."""
        plans = [(plan.frame, plan.va) for plan in self._plans]
        return {"sampler": self.sampler.state_dict(), "plans": plans}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`emotalking.train.stages.Stage`."""
        self.sampler.load_state_dict(state["sampler"])
        self._plans = [Plan(frame, va) for frame, va in state["plans"]]
