"""The two branch stages: the inside of the mouth and the face (eqs. S11-S14)."""

import torch
from torch import Tensor

from emotalking.configs.train import BranchStageConfig
from emotalking.densify import DensifyState
from emotalking.densify.strategy import green_gaussians, prune
from emotalking.losses.image import d_ssim, l1, silhouette
from emotalking.losses.motion import attention_inside
from emotalking.losses.normals import residual_size
from emotalking.models.gaussians import Deformed
from emotalking.models.head import Layer
from emotalking.subject.layouts import Label
from emotalking.train.branch_stage import BranchStage, Context, backdrop, eye_boxes, lip_window, pasted
from emotalking.train.data import class_mask
from emotalking.train.rendered_maps import normal_channels, normal_terms, rendered_attention
from emotalking.train.sampler import FrameSampler, blink_window, lips_part_window, opening_window
from emotalking.train.sync import SyncTerm
from emotalking.train.targets import Target, original

LEAST_MOUTH = 20 / 512**2
"""Share of a frame that the inside of the mouth must have to be of use to its stage: upstream's 20 pixels of frames of
512x512 (paper-spec 8)."""


class MouthStage(BranchStage):
    """Inside of the mouth against its masked pixels (S11, S12)."""

    def __init__(self, context: Context) -> None:
        super().__init__("mouth", context, context.head.mouth, context.config.mouth)
        width, height = context.data.size
        self._open = context.data.pixels_of(Label.MOUTH) >= LEAST_MOUTH * width * height
        self.sampler = FrameSampler(context.data.count, context.generator, self._open)

    def draw(self, iteration: int) -> int:
        """Wide open frames in warm-up, later every n-th from a window of AU25 that widens; all show the mouth's inside.

        In a clip that never shows it, any frame: then the silhouette alone is left to learn.
        """
        every, data = self.settings.curriculum_every, self.context.data
        if every and iteration < self.settings.warmup:
            return self.sampler.draw(self._open & lips_part_window(data.au25, None))
        if every and iteration < self.settings.schedule_knee and iteration % every == 0:
            window = lips_part_window(data.au25, iteration / self.settings.schedule_knee)
            return self.sampler.draw(self._open & window)
        return self.sampler.draw()

    def deform(self, frame: int) -> Deformed:
        """See :class:`BranchStage`."""
        return self.context.head.deform_mouth(self.context.data.conditions.audio[frame : frame + 1])

    def compare(self, frame: int, layer: Layer, iteration: int) -> dict[str, Tensor]:
        """L1 and D-SSIM inside the lip box, where lips hide the mouth nothing is asked.

        Deviation: compared on the lip box only, weighted by its share of the frame; outside it the target is
        backdrop by construction and the silhouette term forbids alpha there.
        """
        data, weights = self.context.data, self.settings.losses
        colour = backdrop(self.context, finished=self.frozen(iteration))
        top, bottom, left, right = data.lips[frame].tolist()
        window = lip_window(data, frame)
        mouth = data.mask(frame, Label.MOUTH)
        box = torch.zeros_like(mouth)
        box[:, top:bottom, left:right] = True
        seen = mouth | ~box
        image = pasted(layer.rgb + (1.0 - layer.alpha[..., None]) * colour, seen, colour)[window]
        target = pasted(data.image(frame), mouth, colour)[window]
        share = image[..., 0].numel() / mouth.numel()
        terms = {"l1": share * l1(image, target), "d_ssim": weights.d_ssim * share * d_ssim(image, target)}
        perceptual = self.perceptual(iteration)
        if perceptual is not None and weights.lpips:
            distance = perceptual.patches(image, target, weights, self.context.generator)
            terms["lpips"] = weights.lpips * share * distance
        if iteration >= self.settings.warmup and weights.silhouette:
            terms["silhouette"] = weights.silhouette * silhouette(layer.alpha, box)
        return terms

    def sync_distance(self, sync: SyncTerm, degree: int) -> Tensor | None:
        """See :meth:`SyncTerm.mouth`."""
        if not sync.source.has_own():
            return None
        window = sync.source.draw(self.context.generator, own=True)
        return sync.distance(sync.mouth(self.context.head, window, degree), window)

    def clean_chroma_key(self) -> None:
        """Green mouth Gaussians become small and faint."""
        gaussians = self.branch.gaussians
        green = green_gaussians(gaussians, mouth=True)
        with torch.no_grad():
            gaussians.opacity_logits[green] = -2.1972246  # logit of 0.1
            gaussians.raw_scales[green] /= 10.0
            self.density.gradient[green] *= 0.5


class FaceStage(BranchStage):
    """Face and hair against their masked pixels (S13, S14)."""

    def __init__(self, context: Context, settings: BranchStageConfig | None = None) -> None:
        super().__init__("face", context, context.head.face, settings or context.config.face)
        self._eyes = eye_boxes(context.data)

    def target(self, frame: int) -> Target:
        """What the rendered ``frame`` is compared with."""
        return original(self.context.data, frame)

    def draw(self, iteration: int) -> int:
        """Every n-th frame from a sliding window of mouth opening (warm-up) or blink (after it)."""
        every, data = self.settings.curriculum_every, self.context.data
        if every and iteration % every == 0 and iteration < self.settings.schedule_knee:
            progress = iteration / self.settings.schedule_knee
            window = opening_window(data.mouth_opening, progress)
            if iteration >= self.settings.warmup:
                window = blink_window(data.blink, progress)
            return self.sampler.draw(window)
        return self.sampler.draw()

    def deform(self, frame: int) -> Deformed:
        """See :class:`BranchStage`."""
        conditions = self.context.data.conditions.at(frame)
        return self.context.head.deform_face(conditions.audio, conditions.aus)

    def compare(self, frame: int, layer: Layer, iteration: int) -> dict[str, Tensor]:
        """L1 and D-SSIM of the whole frame, masked regions pasted on the backdrop."""
        weights, settings = self.settings.losses, self.settings
        colour, wanted = backdrop(self.context), self.target(frame)
        head = class_mask(wanted.labels, Label.HEAD, Label.HAIR)
        image = layer.rgb + (1.0 - layer.alpha[..., None]) * colour
        target = pasted(wanted.image, head, colour)
        bald = settings.hair_every and settings.hair_from <= iteration < settings.hair_until
        if bald and iteration % settings.hair_every:
            bare = ~class_mask(wanted.labels, Label.HAIR)
            image, target = pasted(image, bare, colour), pasted(target, bare, colour)
        terms = {"l1": l1(image, target), "d_ssim": weights.d_ssim * d_ssim(image, target)}
        if iteration >= settings.warmup:
            terms |= self.compare_parts(frame, image, target)
        if iteration >= settings.warmup and weights.silhouette:
            terms["silhouette"] = weights.silhouette * silhouette(layer.alpha, head)
        terms |= self.compare_perceptual(frame, image, target, colour, iteration)
        return terms | self.compare_normals(frame, layer)

    def compare_parts(self, frame: int, image: Tensor, target: Tensor) -> dict[str, Tensor]:
        """L1 and D-SSIM once more of what moves most and is small: lips, eyes."""
        weights, terms = self.settings.losses, {}
        top, bottom, left, right = self._eyes[frame]
        windows = {"lips": lip_window(self.context.data, frame)}
        if bottom - top > 1 and right - left > 1:
            windows["eyes"] = (slice(None), slice(top, bottom), slice(left, right))
        for name, window in windows.items():
            weight = getattr(weights, name)
            if weight:
                ours, theirs = image[window], target[window]
                terms[name] = weight * (l1(ours, theirs) + weights.d_ssim * d_ssim(ours, theirs))
        return terms

    def compare_perceptual(
        self, frame: int, image: Tensor, target: Tensor, colour: Tensor, iteration: int
    ) -> dict[str, Tensor]:
        """LPIPS of the lip box, and of patches of the rest; of patches of all where the lip box has no weight."""
        term, weights, terms = self.perceptual(iteration), self.settings.losses, {}
        if term is None:
            return terms
        if weights.lpips_lips:
            top, bottom, left, right = self.context.data.lips[frame].tolist()
            lips = (slice(None), slice(top, bottom), slice(left, right))
            terms["lpips_lips"] = weights.lpips_lips * term.whole(image[lips], target[lips])
            bare = torch.ones_like(image[..., 0], dtype=torch.bool)
            bare[lips] = False
            image, target = pasted(image, bare, colour), pasted(target, bare, colour)
        if weights.lpips:
            terms["lpips"] = weights.lpips * term.patches(image, target, weights, self.context.generator)
        return terms

    def regularise(self, frame: int, deformed: Deformed, iteration: int) -> dict[str, Tensor]:
        """Small offsets; and attention where it does not belong: the action units' on the lips, both on the hair."""
        terms, data, settings = super().regularise(frame, deformed, iteration), self.context.data, self.settings
        if not settings.losses.attention:
            return terms
        box = data.lips[frame].tolist()
        maps = rendered_attention(self.context.head.face, deformed, data, frame, box)
        lips = torch.ones_like(maps[..., 0], dtype=torch.bool)
        attention = attention_inside(maps[..., 1:], lips)
        if settings.hair_from <= iteration < settings.hair_until and iteration % max(1, settings.hair_every) == 0:
            hair = data.mask(frame, Label.HAIR)
            whole = rendered_attention(
                self.context.head.face, deformed, data, frame, [0, data.size[1], 0, data.size[0]]
            )
            attention = attention + attention_inside(whole, hair)
        return terms | {"attention": settings.losses.attention * attention}

    def extra(self, frame: int, deformed: Deformed) -> Tensor | None:
        """Normals as colours, in the axes of the frame's camera (paper 3.2; eq. 12)."""
        data = self.context.data
        if not self.settings.losses.normals or data.normals is None:
            return None
        return normal_channels(self.branch.gaussians, deformed, data.conditions.viewmats[frame : frame + 1])

    def compare_normals(self, frame: int, layer: Layer) -> dict[str, Tensor]:
        """Weighted terms of the rendered normals (eqs. 12, 15); none without maps or weight."""
        weights, wanted = self.settings.losses, self.context.data.normal_map(frame)
        if not weights.normals or wanted is None:
            return {}
        terms = normal_terms(layer, wanted, weights)
        if weights.normal_residual:
            terms["normal_residual"] = weights.normal_residual * residual_size(self.branch.gaussians.normal_residuals)
        return terms

    def sync_distance(self, sync: SyncTerm, degree: int) -> Tensor:
        """See :meth:`SyncTerm.face`."""
        window = sync.source.draw(self.context.generator)
        return sync.distance(sync.face(self.context.head, window, degree), window)

    def clean_chroma_key(self) -> None:
        """Green face Gaussians are removed."""
        green = green_gaussians(self.branch.gaussians, mouth=False)
        if bool(green.any()):
            prune(self.branch.gaussians, self.optimizers["gaussians"], ~green)
            self.density = DensifyState.zeros(self.branch.gaussians.count, self.context.data.device)
