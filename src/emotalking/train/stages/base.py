"""What every stage has of its run, and what the two branch stages (mouth and face) share."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Bool, Float, Int32
from torch import Tensor
from torch.optim import Optimizer

from emotalking.emotion.mesh_warp.template import eye_loop
from emotalking.errors import UserError
from emotalking.losses.motion import offset_magnitude
from emotalking.models.gaussians import Deformed
from emotalking.models.head import Branch, Layer, TalkingHead, render_layer
from emotalking.ops.cameras import camera_centre
from emotalking.ops.cuda.build import available
from emotalking.train.config import BranchStageConfig, TrainConfig
from emotalking.train.data import TrainingData, as_index
from emotalking.train.densify import DensifyState, densify_and_prune, sample_statistics
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
from emotalking.train.step import Inputs, Plan, Program, Stage
from emotalking.train.sync import SyncTerm
from emotalking.train.sync_source import SyncWindow

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


def lip_windows(data: TrainingData, frames: slice = slice(None)) -> Int32[Tensor, "F 4"]:
    """top, bottom, left, right of the lip boxes of some frames with a margin, inside the frame; on the host."""
    width, height = data.size
    margin = torch.tensor([-MOUTH_MARGIN, MOUTH_MARGIN, -MOUTH_MARGIN, MOUTH_MARGIN])
    edge = torch.tensor([height, height, width, width])
    return (torch.from_numpy(data.lips[frames]) + margin).clamp_min(0).minimum(edge).int()


def lip_window(data: TrainingData, frame: int) -> tuple[slice, slice, slice]:
    """The :func:`lip_windows` of one frame as an index into [1, H, W, ...]."""
    return window_of(lip_windows(data, slice(frame, frame + 1))[0])


def eye_boxes(data: TrainingData) -> list[list[int]]:
    """top, bottom, left, right of the box around the eyes of each frame, with what lids move; empty without a face."""
    eyes = torch.stack([data.points[:, eye_loop(data.layout, side)] for side in ("right", "left")], 1)
    width = (eyes.amax(2) - eyes.amin(2))[..., 0].mean(1)
    low = eyes.amin((1, 2)) - EYE_MARGIN * width[:, None]
    high = eyes.amax((1, 2)) + EYE_MARGIN * width[:, None]
    edge = eyes.new_tensor(data.size)
    low, high = low.clamp_min(0).minimum(edge), high.clamp_min(0).minimum(edge)
    box = torch.stack([low[:, 1], high[:, 1], low[:, 0], high[:, 0]], 1)
    return box.nan_to_num(0.0).round().int().tolist()


def alike(boxes: list[list[int]], size: tuple[int, int]) -> list[list[int]]:
    """Boxes (left, top, right, bottom) grown to the size of the largest, inside the frame.

    So all of a clip's steps do the same operations, as graphs need it. Boxes of the whole frame count for none.
    """
    frame = [0, 0, *size]
    partial = [box for box in boxes if box != frame] or boxes
    width, height = (max(box[axis + 2] - box[axis] for box in partial) for axis in (0, 1))
    grown = []
    for left, top, right, bottom in boxes:
        x = min(max((left + right - width) // 2, 0), size[0] - width)
        y = min(max((top + bottom - height) // 2, 0), size[1] - height)
        grown.append([x, y, x + width, y + height])
    return grown


def same_size(boxes: Int32[Tensor, "F 4"], size: tuple[int, int]) -> Int32[Tensor, "F 4"]:
    """:func:`alike` for boxes top, bottom, left, right of frames of ``size`` (width, height)."""
    edge = boxes.new_tensor(size)[[1, 1, 0, 0]]
    top, bottom, left, right = boxes.clamp_min(0).minimum(edge).unbind(1)
    grown = alike(torch.stack([left, top, right, bottom], 1).tolist(), size)
    return boxes.new_tensor(grown).view(-1, 4)[:, [1, 3, 0, 2]]


def backdrop(context: Context, *, finished: bool = False) -> tuple[float, float, float]:
    """The colour that masked regions are pasted on in this step; once ``finished`` green becomes black."""
    if context.config.background == "green":
        return 0.0, 0.0 if finished else 1.0, 0.0
    return random_colour(context.generator)


def composite_over(image: Tensor, keep: Tensor, colour: Tensor) -> Tensor:
    """``image`` where ``keep``, over ``colour``; [1, H, W, 3]."""
    return torch.where(keep[..., None], image, colour)


class ContextStage(Stage):
    """What every stage has of the run's context."""

    def __init__(self, context: Context) -> None:
        """Raise UserError where the kernels that are asked for cannot be compiled."""
        self.context = context
        self.device = context.data.device
        self.own_kernels = context.config.gpu == "kernels" and self.device.type == "cuda"
        if self.own_kernels and not available():
            raise UserError("gpu=kernels needs cuda-bindings: pip install 'emotalking[gpu]', or use gpu=gsplat.")
        if self.device.type == "cuda" and not self.own_kernels and find_spec("gsplat") is None:
            raise UserError("gpu=gsplat needs gsplat: pip install 'emotalking[gsplat]', or use gpu=kernels.")
        self.boxes_on = self.device if self.own_kernels else torch.device("cpu")
        """Where boxes are known: the host, which cuts them out, or the device whose kernels read them."""
        width, height = context.data.size
        self.whole = torch.tensor([[0, height, 0, width]], dtype=torch.int32, device=self.boxes_on)
        """The one box that is the frame."""
        self._rows = torch.arange(height, device=self.device)[None, :, None]
        self._columns = torch.arange(width, device=self.device)

    def subject_frame(self, frame: int) -> int:
        """See :class:`Stage`."""
        return int(self.context.data.indices[frame])

    def inside(self, boxes: Int32[Tensor, "1 4"]) -> Bool[Tensor, "1 H W"]:
        """True in a box of the frame."""
        if not self.own_kernels:
            within = torch.zeros(1, *self.context.data.size[::-1], dtype=torch.bool, device=self.device)
            within[window_of(boxes[0])] = True
            return within
        top, bottom, left, right = boxes[0].unbind()
        rows, columns = self._rows, self._columns
        return (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)


def window_of(box: Int32[Tensor, "4"]) -> tuple[slice, slice, slice]:
    """A box as an index into [1, H, W, ...]."""
    top, bottom, left, right = box.tolist()
    return slice(None), slice(top, bottom), slice(left, right)


class BranchStage(ContextStage):
    """Mouth or face: canonical Gaussians first, then Gaussians and motion together (eqs. S11-S14)."""

    def __init__(self, name: str, context: Context, branch: Branch, settings: BranchStageConfig) -> None:
        super().__init__(context)
        self.name = name
        self.iterations = settings.iterations
        self.branch, self.settings = branch, settings
        self.lips = torch.from_numpy(context.data.lips).int().to(self.boxes_on)
        """The lip box of each frame."""
        self.lip_windows = lip_windows(context.data).to(self.boxes_on)
        """The same with a margin."""
        self.patched = context.data.size
        """Width and height of what the perceptual term's patches are cut from."""
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
        self._planned: tuple[int, int] | None = None
        """Frame and degree of the step that is being taken."""

    def draw(self, iteration: int) -> int:
        """The next frame under the stage's curriculum."""
        raise NotImplementedError

    def numbers(self, iteration: int) -> tuple[float, ...]:
        """What a step's terms need of the host: the backdrop's colour comes first."""
        return backdrop(self.context, finished=self.frozen(iteration))

    def deform(self, inputs: Inputs) -> Deformed:
        """The branch moved for a frame."""
        raise NotImplementedError

    def compare(self, inputs: Inputs, layer: Layer, program: Program) -> dict[str, Tensor]:
        """Weighted image terms of a rendered frame."""
        raise NotImplementedError

    def extra(self, inputs: Inputs, deformed: Deformed, program: Program) -> tuple[Tensor | None, int]:
        """Channels rendered beside the colours, [1, N, D], or None; and how many of them teach the geometry nothing."""
        return None, 0

    def regularise(self, inputs: Inputs, deformed: Deformed, layer: Layer) -> dict[str, Tensor]:
        """Weighted terms of the motion itself, after the warm-up."""
        weight = self.settings.losses.motion
        return {"motion": weight * offset_magnitude(deformed.offsets)} if weight else {}

    def frozen(self, iteration: int) -> bool:
        """Whether only colours and opacities still train."""
        return bool(self.settings.freeze_geometry_from) and iteration >= self.settings.freeze_geometry_from

    def late(self, iteration: int) -> bool:
        """Whether this iteration has the perceptual loss."""
        return self.settings.losses.lpips_due(iteration, self.iterations, self.settings.warmup)

    def sync_window(self, sync: SyncTerm) -> SyncWindow | None:
        """Draw what a step's sync term hears and shows; None where the clip has no window for it."""
        return sync.source.draw(self.context.generator)

    def sync_pictures(self, sync: SyncTerm, window: SyncWindow, degree: int) -> Tensor:
        """What the expert sees of the branch as it is now, [5, h, w, 3]."""
        raise NotImplementedError

    def plan(self, iteration: int) -> Plan:
        """See :class:`Stage`."""
        settings, context = self.settings, self.context
        frame, side, tensors = self.draw(iteration), None, dict[str, Tensor]()
        if context.perceptual is not None and self.late(iteration):
            side, tensors = context.perceptual.draw(self.patched, settings.losses, context.generator)
        window = self.sync_window(context.sync) if context.sync is not None and self.heard(iteration) else None
        if window is not None:
            tensors |= window.named()
        degree = min(self.branch.gaussians.sh_degree, iteration // settings.sh_every)
        program = Program(
            moving=iteration >= settings.warmup,
            growing=iteration < settings.densify.until,
            degree=degree,
            patch=side,
            sync=window is not None,
        )
        self._planned = frame, degree
        return Plan(frame, program, self.numbers(iteration), tensors)

    def terms(self, program: Program, inputs: Inputs) -> dict[str, Tensor]:
        """See :class:`Stage`."""
        data, gaussians = self.context.data, self.branch.gaussians
        deformed = self.deform(inputs) if program.moving else gaussians.deform()
        probe = None
        if program.growing:
            probe = torch.zeros(1, 1, gaussians.count, 2, device=self.device, requires_grad=True)
        extra, num_detached = self.extra(inputs, deformed, program)
        view = data.conditions.viewmats[as_index(inputs.frame)]
        layer = render_layer(
            gaussians,
            deformed,
            view,
            data.K,
            data.size,
            degree=program.degree,
            extra=extra,
            num_detached=num_detached,
            probe=probe,
        )
        self._probe, self._radii = probe, layer.radii
        terms = self.compare(inputs, layer, program)
        if program.moving:
            terms |= self.regularise(inputs, deformed, layer)
        sync = self.context.sync
        if program.sync and sync is not None:
            window, degree = SyncWindow.of(inputs.tensors), gaussians.sh_degree
            pictures = self.sync_pictures(sync, window, degree if program.degree is None else program.degree)
            terms["sync"] = self.settings.losses.sync * sync.distance(pictures, window)
        return terms

    def heard(self, iteration: int) -> bool:
        """Whether this iteration has a sync term (eq. 9; S12, S14): while the networks still learn."""
        sync, settings = self.context.sync, self.settings
        if sync is None or not settings.losses.sync or self.frozen(iteration):
            return False
        return sync.due(iteration, settings.warmup, settings.iterations)

    def before_update(self, iteration: int) -> None:
        """See :class:`Stage`."""
        optim, settings = self.context.config.optim, self.settings
        rate = means_rate(iteration, optim, settings.means_until, self.extent)
        set_group_rate(self.optimizers["gaussians"], "means", rate)
        learning = settings.freeze_geometry_from or settings.iterations
        self._network_schedule.set(network_factor(iteration, settings.lr_decay_from, learning))
        if self.frozen(iteration):
            for name in ("means", "raw_scales", "raw_quats"):
                set_group_rate(self.optimizers["gaussians"], name, 0.0)
            self._network_schedule.set(0.0)

    def gather(self) -> None:
        """Add what this step says about where Gaussians are missing."""
        if self._probe is None or self._radii is None:
            return
        if self._probe.grad is not None:
            width, height = self.context.data.size
            sample_statistics(self.density, self._probe.grad, self._radii, width, height)
        self._probe = self._radii = None

    def after_update(self, iteration: int) -> bool:
        """See :class:`Stage`."""
        densify = self.settings.densify
        if iteration >= densify.until or iteration % densify.every or iteration == 0:
            return False
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
        if self.context.config.background == "green" and self._planned is not None:
            frame, degree = self._planned
            self.clean_chroma_key(camera_centre(self.context.data.conditions.viewmats[frame]), degree)
        return True

    def clean_chroma_key(self, camera_centre: Float[Tensor, "3"], degree: int) -> None:
        """Remove or weaken Gaussians that learned the chroma key, as this camera sees them."""
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
