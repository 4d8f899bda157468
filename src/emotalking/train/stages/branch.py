"""Shared part of the branch stages: optimizers, learning rates and growth of one branch (eqs. S11-S14)."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.optim import Optimizer

from emotalking.models.gaussians import Deformed
from emotalking.models.head import Branch, Layer, render_layer
from emotalking.ops.geometry import camera_centre
from emotalking.train.config import BranchStageConfig
from emotalking.train.context import Context
from emotalking.train.data import as_index
from emotalking.train.densify import DensifyState, densify_and_prune, sample_statistics
from emotalking.train.optim import (
    FactorSchedule,
    gaussian_optimizer,
    gaussians_factor,
    means_rate,
    network_factor,
    network_optimizer,
    set_group_rate,
)
from emotalking.train.step import GraphKey


class BranchLearner:
    """Training of one branch: canonical Gaussians first, then Gaussians and motion together."""

    def __init__(self, context: Context, branch: Branch, settings: BranchStageConfig) -> None:
        self.branch = branch
        self._context = context
        self._settings = settings
        self._extent = context.data.extent()
        branch.requires_grad_(True)
        optim = context.config.optim
        self._gaussians = gaussian_optimizer(branch.gaussians, optim, self._extent)
        networks = network_optimizer([branch.audio, branch.motion], optim)
        self.optimizers: dict[str, Optimizer] = {"gaussians": self._gaussians, "networks": networks}
        self._network_schedule = FactorSchedule(networks)
        self._gaussian_schedule = FactorSchedule(self._gaussians)
        self.density = DensifyState.zeros(branch.gaussians.count, context.device)
        self._growth = {"grown": 0, "pruned": 0}
        self._probe: Tensor | None = None
        self._radii: Tensor | None = None
        self._step: tuple[int, int] | None = None
        """Frame and degree of the current step."""

    def frozen(self, iteration: int) -> bool:
        """True where only colours and opacities still train."""
        return bool(self._settings.freeze_geometry_from) and iteration >= self._settings.freeze_geometry_from

    def sync_due(self, iteration: int, weight: float) -> bool:
        """True for an iteration with a sync term (eq. 9; S12, S14): while the networks still learn."""
        sync = self._context.sync
        if sync is None or not weight or self.frozen(iteration):
            return False
        return sync.due(iteration, self._settings.warmup, self._settings.iterations)

    def begin(self, iteration: int, frame: int) -> GraphKey:
        """Start a step on ``frame`` and return its operations."""
        settings = self._settings
        degree = min(self.branch.gaussians.sh_degree, iteration // settings.sh_every)
        self._step = frame, degree
        return GraphKey(
            moving=iteration >= settings.warmup,
            growing=iteration < settings.densify.until,
            degree=degree,
        )

    def render(
        self,
        key: GraphKey,
        deformed: Deformed,
        frame: int | Int64[Tensor, "1"],
        extra: Float[Tensor, "1 N D"] | None = None,
        num_detached: int = 0,
    ) -> Layer:
        """Render the branch in the camera of ``frame``, and record the screen-space gradient if the key requires it.

        Args:
            extra: further rendered channels.
            num_detached: number of the last of these without gradient to the geometry.
        """
        data, gaussians = self._context.data, self.branch.gaussians
        probe = None
        if key.growing:
            probe = torch.zeros(1, 1, gaussians.count, 2, device=data.device, requires_grad=True)
        view = data.conditions.viewmats[as_index(frame)]
        layer = render_layer(
            gaussians,
            deformed,
            view,
            data.K,
            data.size,
            degree=key.degree,
            extra=extra,
            num_detached=num_detached,
            probe=probe,
        )
        self._probe, self._radii = probe, layer.radii
        return layer

    def after_backward(self) -> None:
        """Add this step's screen-space gradients to the statistics for densification."""
        if self._probe is None or self._radii is None:
            return
        if self._probe.grad is not None:
            width, height = self._context.data.size
            sample_statistics(self.density, self._probe.grad, self._radii, width, height)
        self._probe = self._radii = None

    def set_rates(self, iteration: int) -> None:
        """Set the learning rates of a step."""
        optim, settings = self._context.config.optim, self._settings
        self._gaussian_schedule.set(gaussians_factor(iteration, settings.densify.until, settings.iterations, optim))
        set_group_rate(self._gaussians, "means", means_rate(iteration, optim, settings.means_until, self._extent))
        learning = settings.freeze_geometry_from or settings.iterations
        self._network_schedule.set(network_factor(iteration, settings.lr_decay_from, learning))
        if iteration < optim.audio_from * settings.iterations:
            for name in ("audio", "temporal"):
                set_group_rate(self.optimizers["networks"], name, 0.0)
        if self.frozen(iteration):
            for name in ("means", "raw_scales", "raw_quats"):
                set_group_rate(self._gaussians, name, 0.0)
            self._network_schedule.set(0.0)

    def grow(self, iteration: int, clean_chroma_key: Callable[[Float[Tensor, "3"], int], None]) -> bool:
        """Grow and prune where an iteration does.

        Args:
            clean_chroma_key: removes or weakens Gaussians that learned the green backdrop, given the camera's centre
                and the degree of the colours that it sees.

        Returns:
            True where tensors were replaced by others.
        """
        densify = self._settings.densify
        if iteration >= densify.until or iteration % densify.every or iteration == 0:
            return False
        if iteration >= densify.start:
            self.density = densify_and_prune(
                self.branch.gaussians,
                self._gaussians,
                self.density,
                densify,
                iteration=iteration,
                extent=self._extent,
                generator=self._context.generator,
            )
            self._growth["grown"] += self.density.grown
            self._growth["pruned"] += self.density.pruned
        if self._context.config.background == "green" and self._step is not None:
            frame, degree = self._step
            clean_chroma_key(camera_centre(self._context.data.conditions.viewmats[frame]), degree)
        return True

    def growth(self) -> dict[str, int]:
        """Gaussians added and removed since the last call."""
        growth, self._growth = self._growth, {"grown": 0, "pruned": 0}
        return growth

    def state_dict(self) -> dict[str, Any]:
        """State that a resumed run needs."""
        return {"density": self.density.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of :meth:`state_dict`.

        Raises:
            ValueError: statistics of another number of Gaussians, or not finite.
        """
        device = self._context.device
        gradient, seen = (state["density"][name].to(device) for name in ("gradient", "seen"))
        for values in (gradient, seen):
            if values.shape != self.density.seen.shape or not bool(torch.isfinite(values).all()):
                raise ValueError(f"statistics of {list(values.shape)} Gaussians, of {list(self.density.seen.shape)}")
        self.density = DensifyState(gradient, seen)
