"""Grow and prune Gaussians, with their optimizer's state (3-D Gaussian splatting's rule; docs/paper.md 3)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.optim import Optimizer

from emotalking.models.gaussians import PARAMETERS, Gaussians, raw_scales_of
from emotalking.ops.geometry import to_matrix
from emotalking.ops.sh import view_colours
from emotalking.train.config import DensifyConfig


def resize(
    gaussians: Gaussians, optimizer: Optimizer | None, source: Int[Tensor, "M"], fresh: Int[Tensor, "F"]
) -> None:
    """Replace the N Gaussians by M rows ``source`` (indices into the old ones, repeats allowed), in place.

    Adam's moments move with their rows; the rows at positions ``fresh`` of the result are new-born and start with
    zero moments, as in 3-D Gaussian splatting.

    Args:
        optimizer: holds each raw parameter in a group of its own, named by the group's key `name`; None: there is none.
    """
    groups = {} if optimizer is None else {group.get("name"): group for group in optimizer.param_groups}
    for name in PARAMETERS:
        old: nn.Parameter = getattr(gaussians, name)
        new = nn.Parameter(old.detach()[source].contiguous(), requires_grad=old.requires_grad)
        setattr(gaussians, name, new)
        if optimizer is None or name not in groups:
            continue
        groups[name]["params"] = [new]
        state = optimizer.state.pop(old, None)
        if state:
            for key, value in state.items():
                if torch.is_tensor(value) and value.shape == old.shape:
                    moved = value[source].contiguous()
                    moved[fresh] = 0.0
                    state[key] = moved
            optimizer.state[new] = state


SPLIT_SHRINK = 1.6
"""A split Gaussian's halves are this much smaller."""


@dataclass
class DensifyState:
    """Statistics between two densifications, one entry per Gaussian."""

    gradient: Float[Tensor, "N"]
    """Sum of screen-space gradient norms, in normalised device units."""
    seen: Float[Tensor, "N"]
    """Views that touched it."""
    grown: int = 0
    """Gaussians that the densification before added."""
    pruned: int = 0
    """Gaussians that it then removed."""

    @classmethod
    def zeros(cls, count: int, device: torch.device | str) -> "DensifyState":
        """Nothing gathered yet."""
        return cls(torch.zeros(count, device=device), torch.zeros(count, device=device))

    def state_dict(self) -> dict[str, Tensor]:
        """The statistics by name, for a checkpoint."""
        return {"gradient": self.gradient, "seen": self.seen}


def sample_statistics(
    state: DensifyState, probe_gradient: Float[Tensor, "B 1 N 2"], radii: Tensor, width: int, height: int
) -> None:
    """Add one step's screen-space gradients (per pixel, of the probe) and visibility to ``state``."""
    norms = torch.hypot(probe_gradient[..., 0] * (0.5 * width), probe_gradient[..., 1] * (0.5 * height))
    state.gradient += norms.sum((0, 1))
    state.seen += (radii.reshape(-1, state.seen.shape[0]) > 0).sum(0)


def densify_and_prune(
    gaussians: Gaussians,
    optimizer: Optimizer,
    state: DensifyState,
    config: DensifyConfig,
    *,
    iteration: int,
    extent: float,
    generator: torch.Generator,
) -> DensifyState:
    """Clone small and split large Gaussians with a high gradient, then remove faint and oversized ones.

    Args:
        extent: scene extent in world units.
        generator: CPU generator that seeds the split positions.

    Returns:
        A cleared state of the new size that counts what was added and removed. At least one Gaussian always survives.
    """
    before = gaussians.count
    with torch.no_grad():
        if iteration >= config.start:
            _grow(gaussians, optimizer, state, config, extent, generator)
        most = gaussians.count
        keep = ~_faint_or_large(gaussians, config, iteration, extent)
        prune(gaussians, optimizer, keep)
    cleared = DensifyState.zeros(gaussians.count, gaussians.means.device)
    cleared.grown, cleared.pruned = most - before, most - gaussians.count
    return cleared


def prune(gaussians: Gaussians, optimizer: Optimizer, keep: Bool[Tensor, "N"]) -> None:
    """Remove all but ``keep``; if nothing were left, the most opaque Gaussian stays."""
    if bool(keep.all()):
        return
    if not bool(keep.any()):
        keep = keep.clone()
        keep[gaussians.opacity_logits.argmax()] = True
    source = keep.nonzero().squeeze(1)
    resize(gaussians, optimizer, source, source.new_zeros(0))


def _grow(
    gaussians: Gaussians,
    optimizer: Optimizer,
    state: DensifyState,
    config: DensifyConfig,
    extent: float,
    generator: torch.Generator,
) -> None:
    # One draw, however many Gaussians split: runs that differ in these still draw the same frames after it.
    splits = torch.Generator().manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
    gradient = state.gradient / state.seen.clamp_min(1.0)
    hot = gradient >= config.grad_threshold
    room = config.max_gaussians - gaussians.count
    if int(hot.sum()) > room:
        if room <= 0:
            return
        limit = gradient.topk(room).values[-1]
        hot &= gradient >= limit
    large = gaussians.scales.amax(1) > config.percent_dense * extent
    clone, split = (hot & ~large).nonzero().squeeze(1), (hot & large).nonzero().squeeze(1)
    rest = (~(hot & large)).nonzero().squeeze(1)
    source = torch.cat([rest, clone, split, split])
    fresh = torch.arange(rest.numel(), source.numel(), device=source.device)
    scales, quats = gaussians.scales[split], gaussians.raw_quats[split]
    resize(gaussians, optimizer, source, fresh)
    halves = slice(source.numel() - 2 * split.numel(), source.numel())
    noise = torch.randn(2 * split.numel(), 3, generator=splits).to(scales.device)
    rotation = to_matrix(quats.repeat(2, 1))
    gaussians.means[halves] += (rotation @ (noise * scales.repeat(2, 1))[..., None]).squeeze(-1)
    gaussians.raw_scales[halves] = raw_scales_of(scales.repeat(2, 1) / SPLIT_SHRINK)


def _faint_or_large(gaussians: Gaussians, config: DensifyConfig, iteration: int, extent: float) -> Bool[Tensor, "N"]:
    progress = min(1.0, iteration / max(1, config.until))
    bad = gaussians.opacities < config.prune_opacity + config.prune_opacity_gain * progress
    if iteration > config.size_from:
        bad |= gaussians.scales.amax(1) > config.max_scale * extent
    return bad


def green_gaussians(
    gaussians: Gaussians, camera_centre: Float[Tensor, "3"], degree: int, *, mouth: bool
) -> Bool[Tensor, "N"]:
    """Gaussians with the colour of the chroma key instead of the person (docs/paper.md 3: thresholds of 255).

    What counts is the colour that a camera sees with spherical harmonics up to ``degree``: of a clip of one side, half
    of a Gaussian's green may be in the higher ones.
    """
    dim, bright = (20.0, 235.0) if mouth else (30.0, 225.0)
    with torch.no_grad():
        (colour,) = (
            view_colours(gaussians.sh0, gaussians.sh_rest, gaussians.means[None], camera_centre[None], degree) * 255.0
        )
    return (colour[:, 0] < dim) & (colour[:, 1] > bright) & (colour[:, 2] < dim)
