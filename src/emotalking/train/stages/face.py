"""The face stage: face and hair against their masked pixels (S13, S14)."""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from emotalking.data.labels import Label
from emotalking.emotion.generator import EmotionGenerator
from emotalking.losses.attention import attention_inside
from emotalking.losses.l1_dssim import l1_dssim_in_boxes
from emotalking.losses.lpips import crop
from emotalking.losses.motion import offset_magnitude
from emotalking.losses.normal_residual import normal_residual
from emotalking.losses.silhouette import silhouette
from emotalking.models.gaussians import Deformed
from emotalking.models.head import Layer
from emotalking.ops.composite import over
from emotalking.train.config import FaceStageConfig
from emotalking.train.context import Context, composite_over
from emotalking.train.data import LIP_MARGIN, as_index, class_mask, equal_sized, eye_boxes, lip_boxes, size_of
from emotalking.train.densify import DensifyState, green_gaussians, prune
from emotalking.train.glances import Glances
from emotalking.train.optim import FactorSchedule, network_factor
from emotalking.train.rendered_maps import attention_channels, normal_channels, normal_terms
from emotalking.train.stages.branch import BranchLearner
from emotalking.train.step import OFF, ON, GraphKey, Stage, StepInputs
from emotalking.train.targets import EmotionalTargets, FaceCurriculum, MixedTargets, Target


class FaceStage(Stage):
    """Face and hair against their masked pixels (S13, S14).

    Deviation: TalkingGaussian erodes the mouth's mask by a pixel while LPIPS is compared, which the paper does not
    mention; here a frame's mask is the same all through.

    Args:
        context: what every stage works on.
        settings: None: the config's.
        source: of frames and targets; None: recorded frames by the stage's curriculum.
    """

    name = "face"

    def __init__(
        self,
        context: Context,
        settings: FaceStageConfig | None = None,
        source: FaceCurriculum | MixedTargets | None = None,
    ) -> None:
        self.settings = settings or context.config.face
        super().__init__(context, self.settings.iterations)
        self.branch = context.head.face
        self.learner = BranchLearner(context, self.branch, self.settings)
        self.optimizers = self.learner.optimizers
        if context.corrections is not None:
            self.optimizers["corrections"] = context.corrections.optimizer()
            self._corrections_schedule = FactorSchedule(self.optimizers["corrections"])
        data = context.data
        self.source = source or FaceCurriculum(data, self.settings, context.generator)
        self._glances = Glances.of(data, context.config.model.gaze_reach)
        self._lips = lip_boxes(data).to(context.box_device)
        squares = equal_sized(lip_boxes(data), data.size)
        self._lip_size = size_of(squares)
        self._lip_squares = squares.to(context.box_device)
        eyes = eye_boxes(data)
        eyes = torch.where((eyes[:, 2:] - eyes[:, :2] > 1).all(1, keepdim=True), eyes, 0)
        losses = self.settings.losses
        parts = (("lips", losses.lips, lip_boxes(data, margin=LIP_MARGIN)), ("eyes", losses.eyes, eyes))
        self._parts = {name: weight for name, weight, _ in parts if weight}
        """Weights of the boxes that are compared once more, because they move most and are small."""
        boxes = [boxes.to(context.box_device) for _, weight, boxes in parts if weight]
        self._boxes = torch.stack([context.whole.expand(data.count, -1), *boxes], 1)

    def inputs(self, iteration: int) -> tuple[GraphKey, StepInputs]:
        """See :class:`Stage`."""
        context, settings, losses = self.context, self.settings, self.settings.losses
        frame, target = self.source.draw(iteration)
        patches = window = None
        if losses.lpips_due(iteration, self.iterations, settings.warmup):
            patches = context.draw_patches(iteration, losses, context.data.size)
        if context.sync is not None and self.learner.sync_due(iteration, losses.sync):
            window = context.sync.source.draw(context.generator)
        backdrop = context.backdrop(finished=self.learner.frozen(iteration))
        glance = torch.zeros(2)
        if self._glances is not None and target is None and iteration >= settings.warmup:
            glance = self._glances.draw(frame, context.generator)
        every, phase = settings.hair_every, settings.hair_from <= iteration < settings.hair_until
        inputs = StepInputs(
            frame,
            backdrop,
            compare_hair=OFF if every and phase and iteration % every else ON,
            hair_attention=ON if phase and iteration % max(1, every) == 0 else OFF,
            glance=glance,
            target=target,
            patches=patches,
            sync=window,
        )
        return self.learner.begin(iteration, frame), inputs

    def deform(self, inputs: StepInputs) -> Deformed:
        """The face moved for a frame; its network may take the target's valence and arousal."""
        conditions = self.context.data.conditions.at(inputs.frame)
        va = None
        if self.branch.motion.takes_emotion:
            va = conditions.va if inputs.target is None else inputs.target.va
        gaze = None if conditions.gaze is None else conditions.gaze + inputs.glance
        attention = self.settings.losses.attention > 0
        return self.context.head.deform_face(conditions.audio, conditions.aus, va=va, gaze=gaze, attention=attention)

    def recorded(self, inputs: StepInputs) -> Float[Tensor, "1 H W 3"]:
        """The frame, whose eyes may look elsewhere."""
        if self._glances is None or not (self.context.own_kernels or inputs.glance.any()):
            return self.context.data.image(inputs.frame)
        return self._glances.turned(inputs.frame, inputs.glance)

    def terms(self, key: GraphKey, inputs: StepInputs) -> dict[str, Tensor]:
        """L1 and D-SSIM of the whole frame, masked regions replaced by the backdrop; and all other terms."""
        context, losses, colour = self.context, self.settings.losses, inputs.backdrop
        data, row = context.data, as_index(inputs.frame)
        deformed = self.deform(inputs) if key.moving else self.branch.gaussians.deform()
        terms = {}
        if key.moving and context.corrections is not None:
            coefficients = context.corrections.coefficients(inputs.frame)
            deformed = context.corrections.apply(deformed, coefficients)
            terms["corrections"] = context.corrections.size(coefficients)
        extra, num_detached = self.extra_channels(key, inputs, deformed)
        layer = self.learner.render(key, deformed, inputs.frame, extra, num_detached)
        labels = data.labels[row] if inputs.target is None else inputs.target.labels
        if inputs.target is not None:
            cut, head = inputs.target.cut_out()
        elif self.settings.soft_outline:
            cut, head = data.cut_out(inputs.frame, self.recorded(inputs))
        else:
            cut, head = Target(self.recorded(inputs), labels, data.conditions.va[row]).cut_out()
        target = over(cut, head, colour.expand_as(cut))
        image = layer.over(colour)
        if self.settings.hair_every:
            compared = ~class_mask(labels, Label.HAIR) | (inputs.compare_hair > 0)
            image, target = (composite_over(each, compared, colour) for each in (image, target))
        boxes = self._boxes[row][0]
        difference, dissimilarity = l1_dssim_in_boxes(image, target, boxes if key.moving else boxes[:1])
        terms |= {"l1": difference[0], "d_ssim": losses.d_ssim * dissimilarity[0]}
        if key.moving:
            for number, (name, weight) in enumerate(self._parts.items(), start=1):
                terms[name] = weight * (difference[number] + losses.d_ssim * dissimilarity[number])
            if losses.silhouette:
                terms["silhouette"] = losses.silhouette * silhouette(layer.alpha, head)
        terms |= self.perceptual_terms(inputs, image, target)
        terms |= self.normal_terms(inputs, layer)
        if key.moving:
            if losses.motion:
                terms["motion"] = losses.motion * offset_magnitude(deformed.offsets)
            if losses.attention:
                terms["attention"] = losses.attention * self.misplaced_attention(inputs, layer)
        if inputs.sync is not None and context.sync is not None:
            frames = context.sync.face(context.head, inputs.sync, key.degree)
            terms["sync"] = losses.sync * context.sync.distance(frames, inputs.sync)
        return terms

    def extra_channels(
        self, key: GraphKey, inputs: StepInputs, deformed: Deformed
    ) -> tuple[Float[Tensor, "1 N D"] | None, int]:
        """Normals as colours, in the axes of the frame's camera (paper 3.2; eq. 11), and attention maps.

        Returns:
            Further rendered channels, or None; and the number of the last of them without gradient to the geometry.
        """
        channels, num_detached = [], 0
        if self.compares_normals(inputs):
            view = self.context.data.conditions.viewmats[as_index(inputs.frame)]
            channels.append(normal_channels(self.branch.gaussians, deformed, view))
        if key.moving and self.settings.losses.attention:
            channels.append(attention_channels(deformed))
            num_detached = 2
        return (torch.cat(channels, -1) if channels else None), num_detached

    def perceptual_terms(
        self, inputs: StepInputs, image: Float[Tensor, "1 H W 3"], target: Float[Tensor, "1 H W 3"]
    ) -> dict[str, Tensor]:
        """LPIPS of the lip box, and of patches of the rest; of patches of all where the lip box has no weight.

        Deviation: lip boxes have the size of the clip's largest (docs/paper.md 7.2: each its own), so that all steps do
        the same operations.
        """
        losses, term = self.settings.losses, self.context.perceptual
        if inputs.patches is None or term is None:
            return {}
        terms = {}
        if losses.lpips_lips:
            lips = self._lip_squares[as_index(inputs.frame)]
            ours, theirs = (crop(each, lips[0, :2], self._lip_size) for each in (image, target))
            terms["lpips_lips"] = losses.lpips_lips * term.whole(ours, theirs)
            outside = ~self.context.inside(lips)
            image, target = (composite_over(each, outside, inputs.backdrop) for each in (image, target))
        if losses.lpips:
            terms["lpips"] = losses.lpips * term.patches(image, target, inputs.patches)
        return terms

    def compares_normals(self, inputs: StepInputs) -> bool:
        """True where there are normal terms: they need weights, and maps, which emotional targets do not have here."""
        return inputs.target is None and self.settings.losses.normals and self.context.data.normals is not None

    def normal_terms(self, inputs: StepInputs, layer: Layer) -> dict[str, Tensor]:
        """Weighted terms of the rendered normals (eqs. 11, 14); none without maps or weight."""
        losses = self.settings.losses
        wanted = self.context.data.normal_map(inputs.frame) if self.compares_normals(inputs) else None
        if wanted is None:
            return {}
        terms = normal_terms(layer, wanted, losses)
        if losses.normal_residual:
            terms["normal_residual"] = losses.normal_residual * normal_residual(self.branch.gaussians.normal_residuals)
        return terms

    def misplaced_attention(self, inputs: StepInputs, layer: Layer) -> Float[Tensor, ""]:
        """Attention where it does not belong: the action units' on the lips, both maps on the hair."""
        maps = layer.extra.split([layer.extra.shape[-1] - 2, 2], dim=-1)[1]
        on_lips = attention_inside(maps[..., 1:], self.context.inside(self._lips[as_index(inputs.frame)]))
        hair = self.context.data.mask(inputs.frame, Label.HAIR)
        return on_lips + inputs.hair_attention * attention_inside(maps, hair)

    def after_backward(self) -> None:
        """See :class:`Stage`."""
        self.learner.after_backward()

    def before_update(self, iteration: int) -> None:
        """See :class:`Stage`."""
        self.learner.set_rates(iteration)
        if self.context.corrections is not None:
            self._corrections_schedule.set(network_factor(iteration, self.settings.lr_decay_from, self.iterations))

    def after_update(self, iteration: int) -> bool:
        """See :class:`Stage`."""
        return self.learner.grow(iteration, self.clean_chroma_key)

    def clean_chroma_key(self, camera_centre: Float[Tensor, "3"], degree: int) -> None:
        """Remove green Gaussians."""
        gaussians = self.branch.gaussians
        green = green_gaussians(gaussians, camera_centre, degree, mouth=False)
        if bool(green.any()):
            prune(gaussians, self.optimizers["gaussians"], ~green)
            self.learner.density = DensifyState.zeros(gaussians.count, self.context.device)

    def growth(self) -> dict[str, int]:
        """See :class:`Stage`."""
        return self.learner.growth()

    def state_dict(self) -> dict[str, Any]:
        """See :class:`Stage`."""
        return self.source.state_dict() | self.learner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`Stage`."""
        self.source.load_state_dict(state)
        self.learner.load_state_dict(state)


def combined_face_stage(context: Context, maker: EmotionGenerator, stage: type[FaceStage] = FaceStage) -> FaceStage:
    """The face stage of the combined face branch: one network learns speech, action units and emotion (paper 4.4).

    Assumption: the paper does not state how the combined branch is trained. Here it has as many steps as the face and
    emotion stages together, and sees as many emotional targets as the emotion stage would, mixed in after the warm-up:
    so a comparison with the separate branches compares the architecture and not the length of the training.

    Args:
        context: what every stage works on.
        maker: makes the emotional targets.
        stage: class of the stage.
    """
    face, emotion = context.config.face, context.config.emotion
    iterations = face.iterations + emotion.iterations
    settings = replace(face, iterations=iterations, lr_decay_from=face.lr_decay_from + emotion.iterations)
    targets = EmotionalTargets(
        context.data,
        maker,
        context.generator,
        va_limit=emotion.va_limit,
        soft_outline=face.soft_outline,
        ahead=context.own_kernels,
    )
    moving = max(iterations - face.warmup, 1)
    share = min(1.0, emotion.iterations * (1.0 - emotion.real_share) / moving)
    curriculum = FaceCurriculum(context.data, settings, context.generator)
    return (stage or FaceStage)(
        context, settings, MixedTargets(curriculum, targets, share, face.warmup, context.generator)
    )
