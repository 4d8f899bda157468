"""What every stage offers the trainer, and what the two branch stages (mouth and face) share."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.optim import Optimizer

from emotalking.configs.train import BranchStageConfig, TrainConfig
from emotalking.densify import DensifyState, densify_and_prune, sample_statistics
from emotalking.losses.motion import motion_size
from emotalking.models.gaussians import Deformed
from emotalking.models.head import Branch, Layer, TalkingHead, render_layer
from emotalking.train.data import TrainingData
from emotalking.train.optim import (
    FactorSchedule,
    gaussian_optimizer,
    means_rate,
    network_factor,
    network_optimizer,
    set_group_rate,
)
from emotalking.train.perceptual import PerceptualTerm
from emotalking.train.sampler import FrameSampler, random_colour
from emotalking.train.sync import SyncTerm

MOUTH_MARGIN = 8
"""Pixels around the lip box that the image losses of mouth and lips see."""

EYE_MARGIN = 0.4
"""Of an eye's width, around the lids: what moves with them."""


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
    perceptual: PerceptualTerm | None = None
    """The perceptual loss; None: the run has none."""


def lip_window(data: TrainingData, frame: int) -> tuple[slice, slice, slice]:
    """The lip box of ``frame`` with a margin, as an index into [1, H, W, ...]."""
    top, bottom, left, right = data.lips[frame].tolist()
    rows = slice(max(0, top - MOUTH_MARGIN), bottom + MOUTH_MARGIN)
    return slice(None), rows, slice(max(0, left - MOUTH_MARGIN), right + MOUTH_MARGIN)


def eye_boxes(data: TrainingData) -> list[list[int]]:
    """top, bottom, left, right of the box around the eyes of each frame, with what lids move; empty without a face."""
    layout = data.layout
    sides = [(*layout.right_upper_lid, *layout.right_lower_lid), (*layout.left_upper_lid, *layout.left_lower_lid)]
    eyes = torch.stack([data.points[:, side] for side in sides], 1)
    width = (eyes.amax(2) - eyes.amin(2))[..., 0].mean(1)
    low = eyes.amin((1, 2)) - EYE_MARGIN * width[:, None]
    high = eyes.amax((1, 2)) + EYE_MARGIN * width[:, None]
    edge = eyes.new_tensor(data.size)
    low, high = low.clamp_min(0).minimum(edge), high.clamp_min(0).minimum(edge)
    box = torch.stack([low[:, 1], high[:, 1], low[:, 0], high[:, 0]], 1)
    return box.nan_to_num(0.0).round().int().tolist()


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

    def figures(self) -> dict[str, int]:
        """What changed since the last call, for the run's record."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything but weights, optimizers and the generator that a resumed run needs."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""
        ...


def backdrop(context: Context, *, finished: bool = False) -> Tensor:
    """The colour that masked regions are pasted on in this step, [3]; once ``finished`` green becomes black."""
    if context.config.background == "green":
        return torch.tensor([0.0, 0.0 if finished else 1.0, 0.0], device=context.data.device)
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
        self._changes = {"grown": 0, "pruned": 0}
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

    def regularise(self, frame: int, deformed: Deformed, iteration: int) -> dict[str, Tensor]:
        """Weighted terms of the motion itself, after the warm-up."""
        weight = self.settings.losses.motion
        return {"motion": weight * motion_size(deformed.offsets)} if weight else {}

    def frozen(self, iteration: int) -> bool:
        """Whether only colours and opacities still train."""
        return bool(self.settings.freeze_geometry_from) and iteration >= self.settings.freeze_geometry_from

    def perceptual(self, iteration: int) -> PerceptualTerm | None:
        """The perceptual loss where this iteration has it; canonical Gaussians have none (S11, S13)."""
        term, settings = self.context.perceptual, self.settings
        late = iteration >= max(settings.warmup, settings.iterations - settings.losses.lpips_last)
        return term if late else None

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
        if moving:
            terms |= self.regularise(frame, deformed, iteration)
        return terms | self._compare_sync(iteration, degree), int(data.indices[frame])

    def _compare_sync(self, iteration: int, degree: int) -> dict[str, Tensor]:
        """The sync term (eq. 9; S12, S14) where this iteration has one and the networks still learn."""
        sync, settings = self.context.sync, self.settings
        if sync is None or not settings.losses.sync or self.frozen(iteration):
            return {}
        if not sync.due(iteration, settings.warmup, settings.iterations):
            return {}
        distance = self.sync_distance(sync, degree)
        return {} if distance is None else {"sync": settings.losses.sync * distance}

    def before_update(self, iteration: int) -> None:
        """See :class:`Stage`."""
        optim, settings = self.context.config.optim, self.settings
        rate = means_rate(iteration, optim, settings.means_until, self.extent)
        set_group_rate(self.optimizers["gaussians"], "means", rate)
        learning = settings.freeze_geometry_from or settings.iterations
        self._network_schedule.set(network_factor(iteration, settings.schedule_knee, learning))
        if self.frozen(iteration):
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
            self._changes["grown"] += self.density.grown
            self._changes["pruned"] += self.density.pruned
        if self.context.config.background == "green":
            self.clean_chroma_key()

    def clean_chroma_key(self) -> None:
        """Remove or weaken Gaussians that learned the chroma key."""
        raise NotImplementedError

    def figures(self) -> dict[str, int]:
        """Gaussians added and removed."""
        changes, self._changes = self._changes, {"grown": 0, "pruned": 0}
        return changes

    def state_dict(self) -> dict[str, Any]:
        """See :class:`Stage`."""
        return {"sampler": self.sampler.state_dict(), "density": self.density.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`Stage`."""
        self.sampler.load_state_dict(state["sampler"])
        device = self.context.data.device
        self.density = DensifyState(**{name: value.to(device) for name, value in state["density"].items()})
