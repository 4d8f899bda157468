"""The face stage of the combined face branch: one network learns speech, action units and emotion (paper 4.4)."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from emotalking.emotion.generator import EmotionGenerator
from emotalking.models.gaussians import Deformed
from emotalking.train.stages.base import Context
from emotalking.train.stages.branches import FaceStage
from emotalking.train.step import Inputs, Plan
from emotalking.train.targets import EmotionalTargets


class CombinedFaceStage(FaceStage):
    """The face stage on original frames with their own valence/arousal, and on emotional ones with the commanded.

    Assumption: the paper does not say how the combined branch is trained. Here it takes as many steps as the face and
    emotion stages together, and sees as many emotional targets as the emotion stage would, mixed in after the warm-up:
    so a comparison with the separate branches compares the architecture and not the length of the training.
    """

    def __init__(self, context: Context, maker: EmotionGenerator) -> None:
        """``maker`` makes the emotional targets."""
        face, emotion = context.config.face, context.config.emotion
        more = emotion.iterations
        super().__init__(
            context, replace(face, iterations=face.iterations + more, lr_decay_from=face.lr_decay_from + more)
        )
        moving = self.iterations - self.settings.warmup
        self.emotional_share = min(1.0, more * (1.0 - emotion.real_share) / max(moving, 1))
        self.targets = EmotionalTargets(
            context.data, maker, context.generator, va_limit=emotion.va_limit, ahead=self.own_kernels
        )
        self._forced: int | None = None

    def plan(self, iteration: int) -> Plan:
        """An emotional target, or a frame by the face stage's curriculum."""
        moving = iteration >= self.settings.warmup
        if not moving or float(torch.rand(1, generator=self.context.generator)) >= self.emotional_share:
            return super().plan(iteration)
        wanted = self.targets.next()
        self._forced = wanted.frame
        plan = super().plan(iteration)
        self._forced = None
        target = {"image": wanted.image, "labels": wanted.labels, "va": wanted.va}
        return replace(plan, tensors=plan.tensors | target, program=replace(plan.program, emotional=True))

    def draw(self, iteration: int) -> int:
        """See :class:`FaceStage`."""
        return super().draw(iteration) if self._forced is None else self._forced

    def recorded(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """See :class:`FaceStage`."""
        if "image" not in inputs.tensors:
            return super().recorded(inputs)
        return inputs.tensors["image"], inputs.tensors["labels"]

    def deform(self, inputs: Inputs) -> Deformed:
        """See :class:`FaceStage`."""
        conditions = self.context.data.conditions.at(inputs.frame)
        va = inputs.tensors.get("va", conditions.va)
        return self.context.head.deform_face(conditions.audio, conditions.aus, va=va)

    def compares_normals(self, inputs: Inputs) -> bool:
        """Emotional targets have none here."""
        return "image" not in inputs.tensors and super().compares_normals(inputs)

    def state_dict(self) -> dict[str, Any]:
        """See :class:`Stage`."""
        return super().state_dict() | {"targets": self.targets.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`Stage`."""
        super().load_state_dict(state)
        self.targets.load_state_dict(state["targets"])
