"""The face stage of the combined face branch: one network learns speech, action units and emotion (paper 4.4)."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from emotalking.generator.protocol import EmotionGenerator
from emotalking.models.gaussians import Deformed
from emotalking.models.head import Layer
from emotalking.train.branch_stage import Context
from emotalking.train.stages import FaceStage
from emotalking.train.targets import EmotionalTargets, Target


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
            context, replace(face, iterations=face.iterations + more, schedule_knee=face.schedule_knee + more)
        )
        moving = self.iterations - self.settings.warmup
        self.emotional_share = min(1.0, more * (1.0 - emotion.real_share) / max(moving, 1))
        self.targets = EmotionalTargets(context.data, maker, context.generator, va_limit=emotion.va_limit)
        self._emotional: Target | None = None

    def draw(self, iteration: int) -> int:
        """An emotional target's frame, or one by the face stage's curriculum."""
        self._emotional = None
        moving = iteration >= self.settings.warmup
        if moving and float(torch.rand(1, generator=self.context.generator)) < self.emotional_share:
            self._emotional = self.targets.next()
            return self._emotional.frame
        return super().draw(iteration)

    def target(self, frame: int) -> Target:
        """See :class:`FaceStage`."""
        return super().target(frame) if self._emotional is None else self._emotional

    def deform(self, frame: int) -> Deformed:
        """See :class:`FaceStage`."""
        conditions = self.context.data.conditions.at(frame)
        va = conditions.va if self._emotional is None else self._emotional.va
        return self.context.head.deform_face(conditions.audio, conditions.aus, va=va)

    def extra(self, frame: int, deformed: Deformed) -> Tensor | None:
        """Normals, which emotional targets do not have."""
        return None if self._emotional is not None else super().extra(frame, deformed)

    def compare_normals(self, frame: int, layer: Layer) -> dict[str, Tensor]:
        """See :meth:`extra`."""
        return {} if self._emotional is not None else super().compare_normals(frame, layer)

    def state_dict(self) -> dict[str, Any]:
        """See :class:`emotalking.train.stages.Stage`."""
        return super().state_dict() | {"targets": self.targets.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`emotalking.train.stages.Stage`."""
        super().load_state_dict(state)
        self.targets.load_state_dict(state["targets"])
