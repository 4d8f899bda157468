"""The emotion stage: the emotion network learns from generated emotional frames and original ones (S15)."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from emotalking.data.labels import Label
from emotalking.emotion.generator import EmotionGenerator
from emotalking.losses.l1_dssim import l1_dssim_in_boxes
from emotalking.losses.motion import offset_magnitude
from emotalking.models.head import render_layer
from emotalking.models.motion import FaceCanonical
from emotalking.ops.cameras import crop_intrinsics
from emotalking.train.data import as_index, class_mask
from emotalking.train.optim import FactorSchedule, network_factor, network_optimizer
from emotalking.train.rendered_maps import normal_channels, normal_terms
from emotalking.train.stages.base import Context, ContextStage, alike, backdrop, composite_over
from emotalking.train.step import Inputs, Plan, Program
from emotalking.train.sync_source import SyncWindow
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


class EmotionStage(ContextStage):
    """Only the emotion network trains; the face below it is frozen, so that switching it off changes nothing."""

    name = "emotion"

    def __init__(self, context: Context, generator: EmotionGenerator) -> None:
        """``generator`` makes the targets, a new (frame, valence, arousal) every step."""
        if context.head.emotion is None:
            raise ValueError("context.head has no emotion branch to train")
        super().__init__(context)
        self.settings = context.config.emotion
        self.iterations = self.settings.iterations
        self.targets = EmotionalTargets(
            context.data,
            generator,
            context.generator,
            va_limit=self.settings.va_limit,
            real_share=self.settings.real_share,
            normals=self.settings.losses.normals,
            ahead=self.own_kernels,
        )
        context.head.requires_grad_(False)
        self.network = context.head.emotion.requires_grad_(True)
        self.optimizers: dict[str, Optimizer] = {"networks": network_optimizer([self.network], context.config.optim)}
        self._schedule = FactorSchedule(self.optimizers["networks"])
        boxes = face_boxes(context.data.points, context.data.size)
        self._boxes = alike(boxes, context.data.size) if self.own_kernels else boxes
        self._canonical: FaceCanonical | None = None
        """Of the frozen face, once its weights are loaded."""
        self._Ks = crop_intrinsics(context.data.K, context.data.K.new_tensor([box[:2] for box in self._boxes]))

    def plan(self, iteration: int) -> Plan:
        """See :class:`Stage`. What it brings is the target inside the face's box."""
        weights, draws = self.settings.losses, self.context.generator
        sync, perceptual = self.context.sync, self.context.perceptual
        wanted = self.targets.next()
        left, top, right, bottom = self._boxes[wanted.frame]
        window = (slice(None), slice(top, bottom), slice(left, right))
        tensors = {"image": wanted.image[window], "labels": wanted.labels[window], "va": wanted.va}
        if wanted.normals is not None:
            tensors["normals"] = wanted.normals[window]
        size, side, heard = (right - left, bottom - top), None, False
        if perceptual is not None and weights.lpips_due(iteration, self.iterations):
            side, where = perceptual.draw(size, weights, draws)
            tensors |= where
        if sync is not None and weights.sync and sync.due(iteration, 0, self.iterations):
            tensors |= sync.source.draw(draws).named()
            heard = True
        normals = wanted.normals is not None
        program = Program(size=size, emotional=True, normals=normals, patch=side, sync=heard)
        return Plan(wanted.frame, program, backdrop(self.context), tensors)

    def terms(self, program: Program, inputs: Inputs) -> dict[str, Tensor]:
        """Image terms inside the face's box.

        Deviation: the paper compares the whole masked frame (S15). Outside the box a target is its source frame, so
        what is left there is the frozen face's own error, which the emotion network would spend itself on.
        Deviation: S15's residual term is absent: the residuals are frozen here, so that it would be a constant.
        """
        data, head, weights = self.context.data, self.context.head, self.settings.losses
        conditions, wanted, colour = data.conditions.at(inputs.frame), inputs.tensors, inputs.numbers[:3]
        with torch.no_grad():
            if self._canonical is None:
                self._canonical = head.face.motion.canonical(head.face.gaussians.means)
            face = head.deform_face(conditions.audio, conditions.aus, self._canonical)
        emotional = head.add_emotion(face, wanted["va"])
        view, size = conditions.viewmats, program.size or data.size
        extra = normal_channels(head.face.gaussians, emotional, view) if program.normals else None
        layer = render_layer(
            head.face.gaussians, emotional, view, self._Ks[as_index(inputs.frame)][0], size, extra=extra
        )
        rendered = layer.rgb + (1.0 - layer.alpha[..., None]) * colour
        target = composite_over(wanted["image"], class_mask(wanted["labels"], Label.HEAD, Label.HAIR), colour)
        difference, unlike = l1_dssim_in_boxes(rendered, target, self.whole)
        terms = {"l1": difference[0], "d_ssim": weights.d_ssim * unlike[0]}
        if program.patch and self.context.perceptual is not None:
            distance = self.context.perceptual.patches(rendered, target, program.patch, wanted)
            terms["lpips"] = weights.lpips * distance
        if program.normals:
            terms |= normal_terms(layer, wanted["normals"], weights)
        if weights.motion:
            terms["motion"] = weights.motion * offset_magnitude(emotional.offsets)
        sync = self.context.sync
        if program.sync and sync is not None:  # eq. 9; S15: of a window that shows the step's emotion
            window = SyncWindow.of(wanted)
            distance = sync.distance(sync.emotional(head, window, wanted["va"][0]), window)
            terms["sync"] = weights.sync * distance
        return terms

    def before_update(self, iteration: int) -> None:
        """See :class:`Stage`."""
        self._schedule.set(network_factor(iteration, self.settings.lr_decay_from, self.iterations))

    def state_dict(self) -> dict[str, Any]:
        """See :class:`Stage`."""
        return self.targets.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`Stage`."""
        self.targets.load_state_dict(state)
