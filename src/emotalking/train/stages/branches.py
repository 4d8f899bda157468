"""The two branch stages: the inside of the mouth and the face (eqs. S11-S14)."""

import torch
from torch import Tensor

from emotalking.data.labels import Label
from emotalking.losses.attention import attention_inside
from emotalking.losses.l1_dssim import l1_dssim_in_boxes
from emotalking.losses.lpips import crop
from emotalking.losses.normal_residual import normal_residual
from emotalking.losses.silhouette import silhouette
from emotalking.models.gaussians import Deformed, raw_scales_of
from emotalking.models.head import Layer
from emotalking.train.config import FaceStageConfig
from emotalking.train.data import as_index, class_mask
from emotalking.train.densify import DensifyState
from emotalking.train.densify.strategy import green_gaussians, prune
from emotalking.train.perceptual import PerceptualTerm
from emotalking.train.rendered_maps import attention_channels, normal_channels, normal_terms
from emotalking.train.sampler import FrameSampler, blink_window, lips_part_window, opening_window
from emotalking.train.stages.base import BranchStage, Context, composite_over, eye_boxes, same_size
from emotalking.train.step import Inputs, Program
from emotalking.train.sync import SyncTerm
from emotalking.train.sync_source import SyncWindow

LEAST_MOUTH = 20 / 512**2
"""Share of a frame that the inside of the mouth must have to be of use to its stage: upstream's 20 pixels of frames of
512x512 (docs/paper.md 8)."""


class MouthStage(BranchStage):
    """Inside of the mouth against its masked pixels (S11, S12)."""

    def __init__(self, context: Context) -> None:
        super().__init__("mouth", context, context.head.mouth, context.config.mouth)
        width, height = context.data.size
        self._open = context.data.pixels_of(Label.MOUTH) >= LEAST_MOUTH * width * height
        self.sampler = FrameSampler(context.data.count, context.generator, self._open)
        top, bottom, left, right = self.lip_windows.unbind(1)
        self._shares = (bottom - top) * (right - left) / (width * height)
        patched = same_size(self.lip_windows.cpu(), context.data.size)
        self.patched = (int(patched[0, 3] - patched[0, 2]), int(patched[0, 1] - patched[0, 0]))
        self._patched_at = patched[:, ::2].contiguous().to(self.boxes_on)

    def draw(self, iteration: int) -> int:
        """Wide open frames in warm-up, later every n-th from a window of AU25 that widens; all show the mouth's inside.

        In a clip that never shows it, any frame: then the silhouette alone is left to learn.
        """
        every, data = self.settings.curriculum_every, self.context.data
        if every and iteration < self.settings.warmup:
            return self.sampler.draw(self._open & lips_part_window(data.au25, None))
        if every and iteration < self.settings.lr_decay_from and iteration % every == 0:
            window = lips_part_window(data.au25, iteration / self.settings.lr_decay_from)
            return self.sampler.draw(self._open & window)
        return self.sampler.draw()

    def deform(self, inputs: Inputs) -> Deformed:
        """See :class:`BranchStage`."""
        return self.context.head.deform_mouth(self.context.data.conditions.audio[as_index(inputs.frame)])

    def compare(self, inputs: Inputs, layer: Layer, program: Program) -> dict[str, Tensor]:
        """L1 and D-SSIM inside the lip box, where lips hide the mouth nothing is asked.

        Deviation: compared on the lip box only, weighted by its share of the frame; outside it the target is
        backdrop by construction and the silhouette term forbids alpha there.
        """
        data, weights, colour = self.context.data, self.settings.losses, inputs.numbers[:3]
        windows, mouth = self.lip_windows[as_index(inputs.frame)], data.mask(inputs.frame, Label.MOUTH)
        box = self.inside(self.lips[as_index(inputs.frame)])
        image = composite_over(layer.rgb + (1.0 - layer.alpha[..., None]) * colour, mouth | ~box, colour)
        target = composite_over(data.image(inputs.frame), mouth, colour)
        share = self._shares[as_index(inputs.frame)][0]
        difference, unlike = l1_dssim_in_boxes(image, target, windows)
        terms = {"l1": share * difference[0], "d_ssim": weights.d_ssim * share * unlike[0]}
        if program.patch and self.context.perceptual is not None:
            corner, size = self._patched_at[as_index(inputs.frame)][0], (self.patched[1], self.patched[0])
            ours, theirs = (crop(picture, corner, size) for picture in (image, target))
            distance = self.context.perceptual.patches(ours, theirs, program.patch, inputs.tensors)
            terms["lpips"] = weights.lpips * share * distance
        if program.moving and weights.silhouette:
            terms["silhouette"] = weights.silhouette * silhouette(layer.alpha, box)
        return terms

    def sync_window(self, sync: SyncTerm) -> SyncWindow | None:
        """One of the clip's own: see :meth:`SyncTerm.mouth`."""
        return sync.source.draw(self.context.generator, own=True) if sync.source.has_own() else None

    def sync_pictures(self, sync: SyncTerm, window: SyncWindow, degree: int) -> Tensor:
        """See :meth:`SyncTerm.mouth`."""
        return sync.mouth(self.context.head, window, degree)

    def clean_chroma_key(self, camera_centre: Tensor, degree: int) -> None:
        """Green mouth Gaussians become small and faint.

        Deviation: the published code divides the raw scale by 10, which is negative before its softplus, so that they
        grow, most of them beyond the whole head; here the scale itself is divided.
        """
        gaussians = self.branch.gaussians
        green = green_gaussians(gaussians, camera_centre, degree, mouth=True)
        with torch.no_grad():
            gaussians.opacity_logits[green] = -2.1972246  # logit of 0.1
            gaussians.raw_scales[green] = raw_scales_of(gaussians.scales[green] / 10.0)
            self.density.gradient[green] *= 0.5


class FaceStage(BranchStage):
    """Face and hair against their masked pixels (S13, S14).

    Deviation: TalkingGaussian erodes the mouth's mask by a pixel while LPIPS is compared, which the paper does not
    mention; here a frame's mask is the same all through.
    """

    def __init__(self, context: Context, settings: FaceStageConfig | None = None) -> None:
        super().__init__("face", context, context.head.face, settings or context.config.face)
        eyes = torch.tensor(eye_boxes(context.data), dtype=torch.int32, device=self.boxes_on)
        eyes = torch.where((eyes[:, 1::2] - eyes[:, ::2] > 1).all(1, keepdim=True), eyes, 0)
        weights, parts = self.settings.losses, {"lips": self.lip_windows, "eyes": eyes}
        self._parts = {name: getattr(weights, name) for name in parts if getattr(weights, name)}
        """Weights of what is compared once more, because it moves most and is small."""
        squares = same_size(self.lips.cpu(), context.data.size)
        self._lip_size = (int(squares[0, 1] - squares[0, 0]), int(squares[0, 3] - squares[0, 2]))
        self._lip_squares = squares.to(self.boxes_on)
        boxes = [self.whole.expand(context.data.count, -1), *(parts[name] for name in self._parts)]
        self._boxes = torch.stack(boxes, 1)

    def recorded(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """The picture that the rendered frame is compared with, and its labels."""
        data = self.context.data
        return data.image(inputs.frame), data.labels[as_index(inputs.frame)]

    def numbers(self, iteration: int) -> tuple[float, ...]:
        """The backdrop's colour; whether hair is compared; whether attention is looked at on the hair."""
        settings = self.settings
        often, phase = settings.hair_every, settings.hair_from <= iteration < settings.hair_until
        shown = not (often and phase and iteration % often)
        return *super().numbers(iteration), float(shown), float(phase and iteration % max(1, often) == 0)

    def draw(self, iteration: int) -> int:
        """Every n-th frame from a sliding window of mouth opening (warm-up) or blink (after it)."""
        every, data = self.settings.curriculum_every, self.context.data
        if every and iteration % every == 0 and iteration < self.settings.lr_decay_from:
            progress = iteration / self.settings.lr_decay_from
            window = opening_window(data.mouth_opening, progress)
            if iteration >= self.settings.warmup:
                window = blink_window(data.blink, progress)
            return self.sampler.draw(window)
        return self.sampler.draw()

    def deform(self, inputs: Inputs) -> Deformed:
        """See :class:`BranchStage`."""
        conditions = self.context.data.conditions.at(inputs.frame)
        return self.context.head.deform_face(conditions.audio, conditions.aus)

    def compare(self, inputs: Inputs, layer: Layer, program: Program) -> dict[str, Tensor]:
        """L1 and D-SSIM of the whole frame, masked regions pasted on the backdrop."""
        weights, settings, colour = self.settings.losses, self.settings, inputs.numbers[:3]
        recorded, labels = self.recorded(inputs)
        head = class_mask(labels, Label.HEAD, Label.HAIR)
        image = layer.rgb + (1.0 - layer.alpha[..., None]) * colour
        target = composite_over(recorded, head, colour)
        if settings.hair_every:
            bare = ~class_mask(labels, Label.HAIR) | (inputs.numbers[3] > 0)
            image, target = composite_over(image, bare, colour), composite_over(target, bare, colour)
        boxes = self._boxes[as_index(inputs.frame)][0]
        difference, unlike = l1_dssim_in_boxes(image, target, boxes if program.moving else boxes[:1])
        terms = {"l1": difference[0], "d_ssim": weights.d_ssim * unlike[0]}
        if program.moving:
            for number, (name, weight) in enumerate(self._parts.items(), start=1):
                terms[name] = weight * (difference[number] + weights.d_ssim * unlike[number])
            if weights.silhouette:
                terms["silhouette"] = weights.silhouette * silhouette(layer.alpha, head)
        if program.patch and self.context.perceptual is not None:
            terms |= self.compare_perceptual(self.context.perceptual, program.patch, inputs, image, target)
        return terms | self.compare_normals(inputs, layer)

    def compare_perceptual(
        self, term: PerceptualTerm, side: int, inputs: Inputs, image: Tensor, target: Tensor
    ) -> dict[str, Tensor]:
        """LPIPS of the lip box, and of patches of the rest; of patches of all where the lip box has no weight.

        Deviation: lip boxes have the size of the clip's largest (docs/paper.md 7.2: each its own), so that all steps do
        the same operations.
        """
        weights, terms = self.settings.losses, {}
        if weights.lpips_lips:
            lips = self._lip_squares[as_index(inputs.frame)]
            ours, theirs = (crop(picture, lips[0, ::2], self._lip_size) for picture in (image, target))
            terms["lpips_lips"] = weights.lpips_lips * term.whole(ours, theirs)
            bare = ~self.inside(lips)
            image, target = (composite_over(picture, bare, inputs.numbers[:3]) for picture in (image, target))
        if weights.lpips:
            terms["lpips"] = weights.lpips * term.patches(image, target, side, inputs.tensors)
        return terms

    def regularise(self, inputs: Inputs, deformed: Deformed, layer: Layer) -> dict[str, Tensor]:
        """Small offsets; and attention where it does not belong: the action units' on the lips, both on the hair."""
        terms, weight = super().regularise(inputs, deformed, layer), self.settings.losses.attention
        if not weight:
            return terms
        maps = layer.extra.split([layer.extra.shape[-1] - 2, 2], dim=-1)[1]
        attention = attention_inside(maps[..., 1:], self.inside(self.lips[as_index(inputs.frame)]))
        hair = self.context.data.mask(inputs.frame, Label.HAIR)
        return terms | {"attention": weight * (attention + inputs.numbers[4] * attention_inside(maps, hair))}

    def compares_normals(self, inputs: Inputs) -> bool:
        """Whether there are normal terms: they need weights, and maps."""
        return self.settings.losses.normals and self.context.data.normals is not None

    def extra(self, inputs: Inputs, deformed: Deformed, program: Program) -> tuple[Tensor | None, int]:
        """Normals as colours, in the axes of the frame's camera (paper 3.2; eq. 11); attention."""
        channels, num_detached = [], 0
        if self.compares_normals(inputs):
            view = self.context.data.conditions.viewmats[as_index(inputs.frame)]
            channels.append(normal_channels(self.branch.gaussians, deformed, view))
        if program.moving and self.settings.losses.attention:
            channels.append(attention_channels(deformed))
            num_detached = 2
        return (torch.cat(channels, -1) if channels else None), num_detached

    def compare_normals(self, inputs: Inputs, layer: Layer) -> dict[str, Tensor]:
        """Weighted terms of the rendered normals (eqs. 11, 14); none without maps or weight."""
        weights = self.settings.losses
        wanted = self.context.data.normal_map(inputs.frame) if self.compares_normals(inputs) else None
        if wanted is None:
            return {}
        terms = normal_terms(layer, wanted, weights)
        if weights.normal_residual:
            terms["normal_residual"] = weights.normal_residual * normal_residual(self.branch.gaussians.normal_residuals)
        return terms

    def sync_pictures(self, sync: SyncTerm, window: SyncWindow, degree: int) -> Tensor:
        """See :meth:`SyncTerm.face`."""
        return sync.face(self.context.head, window, degree)

    def clean_chroma_key(self, camera_centre: Tensor, degree: int) -> None:
        """Green face Gaussians are removed."""
        green = green_gaussians(self.branch.gaussians, camera_centre, degree, mouth=False)
        if bool(green.any()):
            prune(self.branch.gaussians, self.optimizers["gaussians"], ~green)
            self.density = DensifyState.zeros(self.branch.gaussians.count, self.context.data.device)
