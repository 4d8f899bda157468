"""The emotion stage: the emotion network learns from generated emotional frames and original ones (S15)."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from emotalking.generator.protocol import EmotionGenerator
from emotalking.losses.image import d_ssim, l1
from emotalking.losses.motion import motion_size
from emotalking.models.head import render_layer
from emotalking.ops.cameras import crop_intrinsics
from emotalking.subject.layouts import Label
from emotalking.train.branch_stage import Context, backdrop, pasted
from emotalking.train.data import class_mask
from emotalking.train.optim import FactorSchedule, network_factor, network_optimizer
from emotalking.train.rendered_maps import normal_channels, normal_terms
from emotalking.train.targets import EmotionalTargets

MARGIN = 0.12
"""The compared box is this share of the face's width and height larger than its landmarks, on each side."""


def face_boxes(points: Float[Tensor, "F K 2"], size: tuple[int, int]) -> list[list[int]]:
    """left, top, right, bottom in pixels of each frame's landmarks, grown by `MARGIN`, inside the frame.

    The whole frame where a landmark is not known.
    """
    low, high = points.amin(1).nan_to_num(0.0), points.amax(1).nan_to_num(float(max(size)))
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
        self.context, self.settings = context, context.config.emotion
        self.iterations = self.settings.iterations
        self.targets = EmotionalTargets(
            context.data,
            generator,
            context.generator,
            va_limit=self.settings.va_limit,
            real_share=self.settings.real_share,
            normals=self.settings.losses.normals,
        )
        context.head.requires_grad_(False)
        self.network = context.head.emotion.requires_grad_(True)
        self.optimizers: dict[str, Optimizer] = {"networks": network_optimizer([self.network], context.config.optim)}
        self._schedule = FactorSchedule(self.optimizers["networks"])
        self._boxes = face_boxes(context.data.points, context.data.size)
        self._Ks = crop_intrinsics(context.data.K, context.data.K.new_tensor([box[:2] for box in self._boxes]))

    def losses(self, iteration: int) -> tuple[dict[str, Tensor], int]:
        """Image terms inside the face's box.

        Deviation: the paper compares the whole masked frame (S15). Outside the box a target is its source frame, so
        what is left there is the frozen face's own error, which the emotion network would spend itself on.
        Deviation: S15's residual term is absent: the residuals are frozen here, so that it would be a constant.
        """
        data, head, weights = self.context.data, self.context.head, self.settings.losses
        wanted = self.targets.next()
        conditions = data.conditions.at(wanted.frame)
        with torch.no_grad():
            face = head.deform_face(conditions.audio, conditions.aus)
        emotional = head.add_emotion(face, wanted.va)
        left, top, right, bottom = self._boxes[wanted.frame]
        size = (right - left, bottom - top)
        surface, view = wanted.normals, conditions.viewmats
        extra = None if surface is None else normal_channels(head.face.gaussians, emotional, view)
        layer = render_layer(head.face.gaussians, emotional, view, self._Ks[wanted.frame], size, extra=extra)
        colour = backdrop(self.context)
        rendered = layer.rgb + (1.0 - layer.alpha[..., None]) * colour
        window = (slice(None), slice(top, bottom), slice(left, right))
        shown = class_mask(wanted.labels[window], Label.HEAD, Label.HAIR)
        target = pasted(wanted.image[window], shown, colour)
        terms = {"l1": l1(rendered, target), "d_ssim": weights.d_ssim * d_ssim(rendered, target)}
        perceptual = self.context.perceptual
        if perceptual is not None and weights.lpips and iteration >= self.iterations - weights.lpips_last:
            distance = perceptual.patches(rendered, target, weights, self.context.generator)
            terms["lpips"] = weights.lpips * distance
        if surface is not None:
            terms |= normal_terms(layer, surface[window], weights)
        if weights.motion:
            terms["motion"] = weights.motion * motion_size(emotional.offsets)
        return terms | self._compare_sync(iteration, wanted.va[0]), int(data.indices[wanted.frame])

    def _compare_sync(self, iteration: int, va: Tensor) -> dict[str, Tensor]:
        """The sync term (eq. 9; S15) of a window that shows the step's emotion, where this iteration has one."""
        sync, weight = self.context.sync, self.settings.losses.sync
        if sync is None or not weight or not sync.due(iteration, 0, self.iterations):
            return {}
        window = sync.source.draw(self.context.generator)
        return {"sync": weight * sync.distance(sync.emotional(self.context.head, window, va), window)}

    def before_update(self, iteration: int) -> None:
        """See :class:`emotalking.train.stages.Stage`."""
        self._schedule.set(network_factor(iteration, self.settings.schedule_knee, self.iterations))

    def after_update(self, iteration: int) -> None:
        """Nothing grows in this stage."""

    def figures(self) -> dict[str, int]:
        """Nothing grows in this stage."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """See :class:`emotalking.train.stages.Stage`."""
        return self.targets.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`emotalking.train.stages.Stage`."""
        self.targets.load_state_dict(state)
