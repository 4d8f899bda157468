"""The emotion stage: the emotion network learns from generated emotional frames and recorded ones (S15)."""

from typing import Any

import torch
from jaxtyping import Float, Int32
from torch import Tensor
from torch.optim import Optimizer

from emotalking.emotion.generator import EmotionGenerator
from emotalking.emotion.mesh_warp.warp import MeshWarp
from emotalking.losses.growth import growth
from emotalking.losses.l1_dssim import l1_dssim_in_boxes
from emotalking.losses.motion import offset_magnitude
from emotalking.models.head import render_layer
from emotalking.models.motion import FaceCanonical
from emotalking.models.skin import SkinTint
from emotalking.ops.composite import over
from emotalking.ops.geometry import crop_intrinsics
from emotalking.train.context import Context
from emotalking.train.data import as_index, boxes_around, equal_sized, face_boxes
from emotalking.train.emotion_pretraining import pretrain_emotion
from emotalking.train.motion_pretraining import CODES
from emotalking.train.optim import FactorSchedule, network_factor, network_optimizer
from emotalking.train.rendered_maps import normal_channels, normal_terms
from emotalking.train.skin import shade_weights
from emotalking.train.step import GraphKey, Stage, StepInputs
from emotalking.train.targets import EmotionalTargets


class EmotionStage(Stage):
    """Only the emotion network trains; everything else of the head is frozen, so that switching it off changes nothing.

    Gradient flows from the image terms through the rasterizer to the Gaussians' means, rotations and scales, and from
    there to the network alone: its tri-plane, embedding, attention and trunk. The targets carry none.
    """

    name = "emotion"

    def __init__(self, context: Context, maker: EmotionGenerator) -> None:
        """Prepare the stage.

        Args:
            context: what every stage works on.
            maker: generator of the emotional targets.

        Raises:
            ValueError: the head has no emotion network of its own.
        """
        if context.head.emotion is None:
            raise ValueError("context.head has no emotion branch to train")
        self.settings = context.config.emotion
        super().__init__(context, self.settings.iterations)
        self._maker = maker
        expressions, data = context.expressions, context.data
        clips = [data] if expressions is None else [data, *expressions.clips]
        boxes = [face_boxes(clip.points, clip.size) for clip in clips]
        if context.own_kernels:
            boxes = _graph_boxes(boxes, [clip.size for clip in clips])
        self._boxes = torch.cat(boxes)
        """Of the training frames, then of the expressions', as all conditions here."""
        self.targets = EmotionalTargets(
            data,
            maker,
            context.generator,
            va_limit=self.settings.va_limit,
            real_share=self.settings.real_share,
            expressions=expressions,
            expression_share=self.settings.expression_share,
            normals=self.settings.losses.normals,
            soft_outline=context.config.face.soft_outline,
            ahead=context.own_kernels,
            boxes=self._boxes,
        )
        context.head.requires_grad_(False)
        self.network = context.head.emotion.requires_grad_(True)
        self.optimizers: dict[str, Optimizer] = {"networks": network_optimizer([self.network], context.config.optim)}
        self._schedule = FactorSchedule(self.optimizers["networks"])
        self._canonical: FaceCanonical | None = None
        """Constants of the frozen face, once its weights are loaded; with them come :attr:`_codes`."""
        self._codes: Float[Tensor, "G A"]
        """Audio codes of all conditions."""
        self._shade: SkinTint | None = None
        """Of the face, once its weights are loaded; None: this generator's is not known, or not wanted."""
        layout, weights = data.layout, self.settings.losses
        loops = {"lips": [layout.lips_outer], "eyes": [layout.eye_loop(side) for side in ("right", "left")]}
        self._parts = {name: getattr(weights, name) for name in loops if getattr(weights, name)}
        """Weights of the parts that are compared once more."""
        corner = self._boxes[:, :2].repeat(1, 2)
        parts = [
            (torch.cat([boxes_around(clip.points, loops[name], clip.size) for clip in clips]) - corner).clamp_min(0)
            for name in self._parts
        ]
        self._part_boxes = torch.stack([context.whole.cpu().expand_as(corner), *parts], 1).to(context.box_device)
        """Of the whole and of each of these parts, inside the face's box."""
        Ks = [crop_intrinsics(clip.K, part[:, :2].flip(1).to(clip.K)) for clip, part in zip(clips, boxes, strict=True)]
        self._Ks = torch.cat(Ks)
        self._conditions = data.conditions if expressions is None else expressions.following(data.conditions)

    def begin(self) -> None:
        """Teach the network the generator's moves, where it tells them."""
        context, settings = self.context, self.settings
        if isinstance(self._maker, MeshWarp):
            pretrain_emotion(
                context.head, context.data, self._maker, settings.pretraining, context.generator, settings.va_limit
            )

    def inputs(self, iteration: int) -> tuple[GraphKey, StepInputs]:
        """See :class:`Stage`."""
        context, losses = self.context, self.settings.losses
        frame, target = self.targets.draw(iteration)
        patches = sync = None
        if losses.lpips_due(iteration, self.iterations):
            height, width = target.labels.shape[1:]
            patches = context.draw_patches(iteration, losses, (width, height))
        if context.sync is not None and losses.sync and context.sync.due(iteration, 0, self.iterations):
            sync = context.sync.source.draw(context.generator)
        inputs = StepInputs(frame, context.backdrop(), target=target, patches=patches, sync=sync)
        return GraphKey(), inputs

    def terms(self, key: GraphKey, inputs: StepInputs) -> dict[str, Tensor]:
        """Image terms inside the face's box, and once more of its lips and eyes.

        Deviation: the paper compares the whole masked frame (S15). Outside the box a target is its source frame, so
        what is left there is the frozen face's own error, which the emotion network would spend itself on.
        Deviation: S15's residual term is absent: the residuals are frozen here, so that it would be a constant.
        """
        assert inputs.target is not None  # given by inputs()
        context = self.context
        head = self.context.head
        losses = self.settings.losses
        wanted = inputs.target
        conditions, gaussians = self._conditions.at(inputs.frame), head.face.gaussians
        with torch.no_grad():
            if self._canonical is None:
                self._canonical = head.face.motion.canonical(gaussians.means)
                self._codes = torch.cat([head.face.audio(part) for part in self._conditions.audio.split(CODES)])
                if isinstance(self._maker, MeshWarp) and context.config.model.emotion.shade:
                    self._shade = SkinTint(gaussians.sh0, None, shade_weights(self._maker, context.data, gaussians))
            code = self._codes[as_index(inputs.frame)]
            face = head.deform_face_by_code(self._canonical, code, conditions.aus, gaze=conditions.gaze)
        emotional = head.add_emotion(face, wanted.va)
        view, (height, width) = conditions.viewmats, wanted.image.shape[1:3]
        extra = None if wanted.normals is None else normal_channels(gaussians, emotional, view)
        K = self._Ks[as_index(inputs.frame)][0]
        tint = None if self._shade is None else self._shade(wanted.va)
        layer = render_layer(gaussians, emotional, view, K, (width, height), extra=extra, tint=tint)
        rendered = layer.over(inputs.backdrop)
        cut, head_alpha = wanted.cut_out()
        target = over(cut, head_alpha, inputs.backdrop.expand_as(cut))
        if wanted.compared is not None:
            target = torch.where(wanted.compared[..., None], target, rendered.detach())
        boxes = self._part_boxes[as_index(inputs.frame)][0]
        difference, dissimilarity = l1_dssim_in_boxes(rendered, target, boxes)
        terms = {"l1": difference[0], "d_ssim": losses.d_ssim * dissimilarity[0]}
        for number, (name, weight) in enumerate(self._parts.items(), start=1):
            terms[name] = weight * (difference[number] + losses.d_ssim * dissimilarity[number])
        if inputs.patches is not None and context.perceptual is not None:
            distance = context.perceptual.patches(rendered, target, inputs.patches)
            terms["lpips"] = losses.lpips * distance
        if wanted.normals is not None:
            terms |= normal_terms(layer, wanted.normals, losses)
        if losses.motion:
            terms["motion"] = losses.motion * offset_magnitude(emotional.offsets)
        if losses.growth:
            terms["growth"] = losses.growth * growth(emotional.scales, face.scales)
        if inputs.sync is not None and context.sync is not None:  # eq. 9; S15: of a window that shows this emotion
            frames = context.sync.emotional(head, inputs.sync, wanted.va[0])
            terms["sync"] = losses.sync * context.sync.distance(frames, inputs.sync)
        return terms

    def subject_frame(self, inputs: StepInputs) -> int:
        """See :class:`Stage`; of an expression's frame, its number in its own clip."""
        beyond = int(inputs.frame) - self.context.data.count
        if beyond < 0 or self.context.expressions is None:
            return super().subject_frame(inputs)
        clip, row = self.context.expressions.find(beyond)
        return int(clip.indices[row])

    def before_update(self, iteration: int) -> None:
        """See :class:`Stage`."""
        settings = self.settings
        self._schedule.set(settings.rates * network_factor(iteration, settings.lr_decay_from, self.iterations))

    def state_dict(self) -> dict[str, Any]:
        """See :class:`Stage`."""
        return self.targets.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`Stage`."""
        self.targets.load_state_dict(state)


def _graph_boxes(boxes: list[Int32[Tensor, "F 4"]], sizes: list[tuple[int, int]]) -> list[Int32[Tensor, "F 4"]]:
    """Boxes of several clips, of one size each among the clips whose frames have one size (CUDA graphs)."""
    out = list(boxes)
    for size in set(sizes):
        same = [number for number, other in enumerate(sizes) if other == size]
        grown = equal_sized(torch.cat([boxes[number] for number in same]), size)
        for number, part in zip(same, grown.split([len(boxes[number]) for number in same]), strict=True):
            out[number] = part
    return out
