"""The mouth stage: the inside of the mouth against its masked pixels (S11, S12)."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from emotalking.data.labels import Label
from emotalking.losses.l1_dssim import l1_dssim_in_boxes
from emotalking.losses.lpips import crop
from emotalking.losses.motion import offset_magnitude
from emotalking.losses.silhouette import silhouette
from emotalking.models.gaussians import raw_scales_of
from emotalking.train.context import Context, composite_over
from emotalking.train.data import LIP_MARGIN, as_index, equal_sized, lip_boxes, size_of
from emotalking.train.densify import green_gaussians
from emotalking.train.sampler import FrameSampler, lips_part_window
from emotalking.train.stages.branch import BranchLearner
from emotalking.train.step import GraphKey, Stage, StepInputs
from emotalking.train.sync_source import SyncWindow

LEAST_MOUTH = 20 / 512**2
"""Share of a frame that the inside of the mouth must have to be of use to its stage: upstream's 20 pixels of frames of
512x512 (docs/paper.md 8)."""


class MouthStage(Stage):
    """Inside of the mouth against its masked pixels (S11, S12)."""

    name = "mouth"

    def __init__(self, context: Context) -> None:
        self.settings = context.config.mouth
        super().__init__(context, self.settings.iterations)
        self.branch = context.head.mouth
        self.learner = BranchLearner(context, self.branch, self.settings)
        self.optimizers = self.learner.optimizers
        data = context.data
        width, height = data.size
        self._open = data.pixels_of(Label.MOUTH) >= LEAST_MOUTH * width * height
        self.sampler = FrameSampler(data.count, context.generator, self._open)
        self._lips = lip_boxes(data).to(context.box_device)
        windows = lip_boxes(data, margin=LIP_MARGIN)
        self._windows = windows.to(context.box_device)
        top, left, bottom, right = self._windows.unbind(1)
        self._shares = (bottom - top) * (right - left) / (width * height)
        patched = equal_sized(windows, data.size)
        self._patched_size = size_of(patched)
        """Rows and columns of the region of the perceptual term's patches."""
        self._patched_at = patched[:, :2].contiguous().to(context.box_device)

    def draw(self, iteration: int) -> int:
        """Wide open frames in warm-up, later every n-th from a window of AU25 that widens; all show the mouth's inside.

        In a clip where it is never visible, any frame: then only the silhouette is left to learn.
        """
        every, data = self.settings.curriculum_every, self.context.data
        if every and iteration < self.settings.warmup:
            return self.sampler.draw(self._open & lips_part_window(data.au25, None))
        if every and iteration < self.settings.lr_decay_from and iteration % every == 0:
            window = lips_part_window(data.au25, iteration / self.settings.lr_decay_from)
            return self.sampler.draw(self._open & window)
        return self.sampler.draw()

    def draw_window(self) -> SyncWindow | None:
        """A sync window of the clip's own speech (see :meth:`SyncTerm.mouth`); None where the clip has none."""
        sync = self.context.sync
        if sync is None or not sync.source.has_own():
            return None
        return sync.source.draw(self.context.generator, own=True)

    def inputs(self, iteration: int) -> tuple[GraphKey, StepInputs]:
        """See :class:`Stage`."""
        losses, settings = self.settings.losses, self.settings
        frame, patches = self.draw(iteration), None
        if losses.lpips_due(iteration, self.iterations, settings.warmup):
            rows, columns = self._patched_size
            patches = self.context.draw_patches(iteration, losses, (columns, rows))
        window = self.draw_window() if self.learner.sync_due(iteration, losses.sync) else None
        backdrop = self.context.backdrop(finished=self.learner.frozen(iteration))
        key = self.learner.begin(iteration, frame)
        return key, StepInputs(frame, backdrop, patches=patches, sync=window)

    def terms(self, key: GraphKey, inputs: StepInputs) -> dict[str, Tensor]:
        """L1 and D-SSIM inside the lip box, without the pixels where lips hide the mouth.

        Deviation: compared on the lip box only, weighted by its share of the frame; outside it the target is
        backdrop by construction and the silhouette term forbids alpha there.
        """
        context, losses, colour = self.context, self.settings.losses, inputs.backdrop
        data, row = context.data, as_index(inputs.frame)
        moved = context.head.deform_mouth(data.conditions.audio[row]) if key.moving else self.branch.gaussians.deform()
        layer = self.learner.render(key, moved, inputs.frame)
        mouth, box = data.mask(inputs.frame, Label.MOUTH), context.inside(self._lips[row])
        image = composite_over(layer.over(colour), mouth | ~box, colour)
        target = composite_over(data.image(inputs.frame), mouth, colour)
        share = self._shares[row][0]
        difference, dissimilarity = l1_dssim_in_boxes(image, target, self._windows[row])
        terms = {"l1": share * difference[0], "d_ssim": losses.d_ssim * share * dissimilarity[0]}
        if inputs.patches is not None and context.perceptual is not None:
            corner = self._patched_at[row][0]
            ours, theirs = (crop(each, corner, self._patched_size) for each in (image, target))
            terms["lpips"] = losses.lpips * share * context.perceptual.patches(ours, theirs, inputs.patches)
        if key.moving:
            if losses.silhouette:
                terms["silhouette"] = losses.silhouette * silhouette(layer.alpha, box)
            if losses.motion:
                terms["motion"] = losses.motion * offset_magnitude(moved.offsets)
        if inputs.sync is not None and context.sync is not None:
            frames = context.sync.mouth(context.head, inputs.sync, key.degree)
            terms["sync"] = losses.sync * context.sync.distance(frames, inputs.sync)
        return terms

    def after_backward(self) -> None:
        """See :class:`Stage`."""
        self.learner.after_backward()

    def before_update(self, iteration: int) -> None:
        """See :class:`Stage`."""
        self.learner.set_rates(iteration)

    def after_update(self, iteration: int) -> bool:
        """See :class:`Stage`."""
        return self.learner.grow(iteration, self.clean_chroma_key)

    def clean_chroma_key(self, camera_centre: Float[Tensor, "3"], degree: int) -> None:
        """Make green Gaussians small and faint.

        Deviation: the published code divides the raw scale by 10, which is negative before its softplus, so that they
        grow, most of them larger than the head; here the scale itself is divided.
        """
        gaussians = self.branch.gaussians
        green = green_gaussians(gaussians, camera_centre, degree, mouth=True)
        with torch.no_grad():
            gaussians.opacity_logits[green] = -2.1972246  # logit of 0.1
            gaussians.raw_scales[green] = raw_scales_of(gaussians.scales[green] / 10.0)
            self.learner.density.gradient[green] *= 0.5

    def growth(self) -> dict[str, int]:
        """See :class:`Stage`."""
        return self.learner.growth()

    def state_dict(self) -> dict[str, Any]:
        """See :class:`Stage`."""
        return {"sampler": self.sampler.state_dict()} | self.learner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`Stage`."""
        self.sampler.load_state_dict(state["sampler"])
        self.learner.load_state_dict(state)
