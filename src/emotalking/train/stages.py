"""What every stage offers the trainer, and the two branch stages (mouth and face)."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.optim import Optimizer

from emotalking.configs.train import BranchStageConfig, TrainConfig
from emotalking.densify import DensifyState, densify_and_prune, sample_statistics
from emotalking.densify.strategy import green_gaussians, prune
from emotalking.losses.image import d_ssim, l1, silhouette
from emotalking.losses.motion import motion_size
from emotalking.losses.normals import normal_l1, residual_size, total_variation
from emotalking.models.gaussians import Deformed
from emotalking.models.head import Branch, Layer, TalkingHead, render_layer
from emotalking.ops.cameras import camera_centre
from emotalking.ops.normals import encode_normals, normals_from_render, to_camera_frame
from emotalking.subject.layouts import Label
from emotalking.train.data import TrainingData, class_mask
from emotalking.train.optim import (
    FactorSchedule,
    gaussian_optimizer,
    means_rate,
    network_factor,
    network_optimizer,
    set_group_rate,
)
from emotalking.train.sampler import (
    FrameSampler,
    blink_window,
    lips_part_window,
    opening_window,
    random_colour,
)
from emotalking.train.sync import SyncTerm
from emotalking.train.targets import Target, original

MOUTH_MARGIN = 8
"""Pixels around the lip box that the image losses of mouth and lips see."""


@dataclass
class Context:
    """What every stage works on."""

    head: TalkingHead
    data: TrainingData
    config: TrainConfig
    generator: torch.Generator
    """CPU generator of every draw of the run."""
    sync: SyncTerm | None = None
    """The sync loss; None: the run has none."""


def lip_window(data: TrainingData, frame: int) -> tuple[slice, slice, slice]:
    """The lip box of ``frame`` with a margin, as an index into [1, H, W, ...]."""
    top, bottom, left, right = data.lips[frame].tolist()
    rows = slice(max(0, top - MOUTH_MARGIN), bottom + MOUTH_MARGIN)
    return slice(None), rows, slice(max(0, left - MOUTH_MARGIN), right + MOUTH_MARGIN)


@runtime_checkable
class Stage(Protocol):
    """One stage of the recipe: its parameters, losses, sampler and growth. The trainer knows nothing else."""

    name: str
    iterations: int
    optimizers: dict[str, Optimizer]

    def losses(self, iteration: int) -> tuple[dict[str, Tensor], int]:
        """Weighted loss terms of one step, and the subject's number of the frame that they are of."""
        ...

    def before_update(self, iteration: int) -> None:
        """Called between the backward pass and the optimizer step: learning rates."""
        ...

    def after_update(self, iteration: int) -> None:
        """Called after the optimizer step: growth and pruning."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything but weights, optimizers and the generator that a resumed run needs."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""
        ...


def backdrop(context: Context) -> Tensor:
    """The colour that masked regions are pasted on in this step, [3]."""
    if context.config.background == "green":
        return torch.tensor([0.0, 1.0, 0.0], device=context.data.device)
    return random_colour(context.generator, context.data.device)


def pasted(image: Tensor, keep: Tensor, colour: Tensor) -> Tensor:
    """``image`` where ``keep``, ``colour`` elsewhere; [1, H, W, 3]."""
    return torch.where(keep[..., None], image, colour)


class BranchStage:
    """Mouth or face: canonical Gaussians first, then Gaussians and motion together (eqs. S11-S14)."""

    def __init__(self, name: str, context: Context, branch: Branch, settings: BranchStageConfig) -> None:
        self.name = name
        self.iterations = settings.iterations
        self.context, self.branch, self.settings = context, branch, settings
        self.sampler = FrameSampler(context.data.count, context.generator)
        self.extent = context.data.extent()
        optim = context.config.optim
        branch.requires_grad_(True)
        self.optimizers: dict[str, Optimizer] = {
            "gaussians": gaussian_optimizer(branch.gaussians, optim, self.extent),
            "networks": network_optimizer([branch.audio, branch.motion], optim),
        }
        self._network_schedule = FactorSchedule(self.optimizers["networks"])
        self.density = DensifyState.zeros(branch.gaussians.count, context.data.device)
        self._probe: Tensor | None = None
        self._radii: Tensor | None = None

    def draw(self, iteration: int) -> int:
        """The next frame under the stage's curriculum."""
        raise NotImplementedError

    def deform(self, frame: int) -> Deformed:
        """The branch moved for ``frame``."""
        raise NotImplementedError

    def compare(self, frame: int, layer: Layer, iteration: int) -> dict[str, Tensor]:
        """Weighted image terms of a rendered frame."""
        raise NotImplementedError

    def extra(self, frame: int, deformed: Deformed) -> Tensor | None:
        """Channels rendered beside the colours, [1, N, D]; None: none."""
        return None

    def sync_distance(self, sync: SyncTerm, degree: int) -> Tensor | None:
        """The distance of a window of the branch as it is now; None where the clip has no window for it."""
        raise NotImplementedError

    def losses(self, iteration: int) -> tuple[dict[str, Tensor], int]:
        """See :class:`Stage`."""
        frame = self.draw(iteration)
        data, gaussians = self.context.data, self.branch.gaussians
        degree = min(gaussians.sh_degree, iteration // self.settings.sh_every)
        moving = iteration >= self.settings.warmup
        deformed = self.deform(frame) if moving else gaussians.deform()
        growing = iteration < self.settings.densify.until
        probe = torch.zeros(1, 1, gaussians.count, 2, device=data.device, requires_grad=True) if growing else None
        layer = render_layer(
            gaussians,
            deformed,
            data.conditions.viewmats[frame : frame + 1],
            data.K,
            data.size,
            degree=degree,
            extra=self.extra(frame, deformed),
            probe=probe,
        )
        self._probe, self._radii = probe, layer.raster.radii
        terms = self.compare(frame, layer, iteration)
        if moving and self.settings.losses.motion:
            terms["motion"] = self.settings.losses.motion * motion_size(deformed.offsets)
        return terms | self._compare_sync(iteration, degree), int(data.indices[frame])

    def _compare_sync(self, iteration: int, degree: int) -> dict[str, Tensor]:
        """The sync term (eq. 9; S12, S14) where this iteration has one and the networks still learn."""
        sync, settings = self.context.sync, self.settings
        frozen = settings.freeze_geometry_from and iteration >= settings.freeze_geometry_from
        if sync is None or not settings.losses.sync or frozen:
            return {}
        if not sync.due(iteration, settings.warmup, settings.iterations):
            return {}
        distance = self.sync_distance(sync, degree)
        return {} if distance is None else {"sync": settings.losses.sync * distance}

    def before_update(self, iteration: int) -> None:
        """See :class:`Stage`."""
        optim, settings = self.context.config.optim, self.settings
        rate = means_rate(iteration, optim, settings.densify.until, self.extent)
        set_group_rate(self.optimizers["gaussians"], "means", rate)
        self._network_schedule.set(network_factor(iteration, settings.schedule_knee, settings.iterations))
        if settings.freeze_geometry_from and iteration >= settings.freeze_geometry_from:
            for name in ("means", "raw_scales", "raw_quats"):
                set_group_rate(self.optimizers["gaussians"], name, 0.0)
            self._network_schedule.set(0.0)

    def after_update(self, iteration: int) -> None:
        """See :class:`Stage`."""
        densify = self.settings.densify
        if self._probe is None or iteration >= densify.until:
            return
        gradient = self._probe.grad
        if gradient is not None and self._radii is not None:
            width, height = self.context.data.size
            sample_statistics(self.density, gradient, self._radii, width, height)
        self._probe = self._radii = None
        if iteration % densify.every or iteration == 0:
            return
        gaussians, optimizer = self.branch.gaussians, self.optimizers["gaussians"]
        if iteration >= densify.start:
            self.density = densify_and_prune(
                gaussians,
                optimizer,
                self.density,
                densify,
                iteration=iteration,
                extent=self.extent,
                generator=self.context.generator,
            )
        if self.context.config.background == "green":
            self.clean_chroma_key()

    def clean_chroma_key(self) -> None:
        """Remove or weaken Gaussians that learned the chroma key."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """See :class:`Stage`."""
        return {"sampler": self.sampler.state_dict(), "density": self.density.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`Stage`."""
        self.sampler.load_state_dict(state["sampler"])
        device = self.context.data.device
        self.density = DensifyState(**{name: value.to(device) for name, value in state["density"].items()})


class MouthStage(BranchStage):
    """Inside of the mouth against its masked pixels (S11, S12)."""

    def __init__(self, context: Context) -> None:
        super().__init__("mouth", context, context.head.mouth, context.config.mouth)

    def draw(self, iteration: int) -> int:
        """Wide open frames in warm-up, later every n-th from a window of AU25 that widens."""
        every, data = self.settings.curriculum_every, self.context.data
        if every and iteration < self.settings.warmup:
            return self.sampler.draw(lips_part_window(data.au25, None))
        if every and iteration < self.settings.schedule_knee and iteration % every == 0:
            return self.sampler.draw(lips_part_window(data.au25, iteration / self.settings.schedule_knee))
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
        colour = backdrop(self.context)
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
        data, weights, settings = self.context.data, self.settings.losses, self.settings
        colour, wanted = backdrop(self.context), self.target(frame)
        head = class_mask(wanted.labels, Label.HEAD, Label.HAIR)
        image = layer.rgb + (1.0 - layer.alpha[..., None]) * colour
        target = pasted(wanted.image, head, colour)
        bald = settings.hair_every and settings.hair_from <= iteration < settings.hair_until
        if bald and iteration % settings.hair_every:
            bare = ~class_mask(wanted.labels, Label.HAIR)
            image, target = pasted(image, bare, colour), pasted(target, bare, colour)
        terms = {"l1": l1(image, target), "d_ssim": weights.d_ssim * d_ssim(image, target)}
        if iteration >= settings.warmup and weights.lips:
            ours, theirs = (part[lip_window(data, frame)] for part in (image, target))
            terms["lips"] = weights.lips * (l1(ours, theirs) + weights.d_ssim * d_ssim(ours, theirs))
        if iteration >= settings.warmup and weights.silhouette:
            terms["silhouette"] = weights.silhouette * silhouette(layer.alpha, head)
        return terms | self.compare_normals(frame, layer)

    def extra(self, frame: int, deformed: Deformed) -> Tensor | None:
        """Normals as colours, in the axes of the frame's camera (paper 3.2; eq. 12)."""
        data = self.context.data
        if not self.settings.losses.normal or data.normals is None:
            return None
        view = data.conditions.viewmats[frame : frame + 1]
        normals = self.branch.gaussians.normals(deformed, camera_centre(view))
        return encode_normals(to_camera_frame(normals, view))

    def compare_normals(self, frame: int, layer: Layer) -> dict[str, Tensor]:
        """Weighted terms of the rendered normals (eqs. 12, 15); none without maps or weight."""
        weights, wanted = self.settings.losses, self.context.data.normal_map(frame)
        if not weights.normal or wanted is None:
            return {}
        rendered = normals_from_render(layer.raster.features[:, 0, ..., 3:], layer.alpha)
        known = wanted.abs().amax(-1) > 0
        return {
            "normal": weights.normal * normal_l1(rendered, wanted),
            "normal_tv": weights.normal_tv * total_variation(rendered, known),
            "normal_residual": weights.normal_residual * residual_size(self.branch.gaussians.normal_residuals),
        }

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
