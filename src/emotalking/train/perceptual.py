"""Perceptual loss: LPIPS of patches (paper S12, S14-S16; docs/paper.md 7.2)."""

import logging
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from emotalking.losses.lpips import cut_patches, lpips
from emotalking.networks.lpips import BACKBONES, Backbone, Lpips, found_backbone, licences_of
from emotalking.networks.registry import model_folders
from emotalking.train.config import PerceptualConfig, TrainConfig
from emotalking.train.data import random_index
from emotalking.train.loss_config import ImageLosses

_logger = logging.getLogger(__name__)

NONE = "none"
SIDE_STEPS = 100
"""Iterations that share a patch size, and so a CUDA graph (`train.graphs`): a densification discards all graphs, and
with a random size in each step nearly every step between two of them was a new kind."""
GOLDEN = (5**0.5 - 1) / 2
"""Its multiples modulo 1 cover any range evenly."""


class Patches(NamedTuple):
    """A step's patches: a grid of squares."""

    side: int
    """Side of a square in pixels."""
    corner: Int64[Tensor, "2"]
    """Row and column where the grid of patches begins."""
    chosen: Int64[Tensor, " P"] | None
    """Patches of the grid that count; None: all."""


class PerceptualTerm:
    """LPIPS of patches of many sizes at random places; one for all stages of a run."""

    def __init__(self, distance: Lpips, backbone: Backbone, settings: PerceptualConfig) -> None:
        self.distance = distance
        self.backbone: Backbone = backbone
        self._settings = settings

    @property
    def licences(self) -> dict[str, str]:
        """Licence of each part that the loss brought into an avatar."""
        return licences_of(self.backbone)

    def draw(self, iteration: int, size: tuple[int, int], losses: ImageLosses, generator: torch.Generator) -> Patches:
        """A step's patches of images of ``size`` (width, height).

        They are a grid of squares of one even side that begins at a random place. Images smaller than the least side
        are one patch each. With ``patches`` set, so many squares are drawn from the grid, which leaves the mean as it
        is and bounds the cost.

        Deviation: upstream's grids begin at the corner, so that the lower and right edges are rarely covered, and have
        a random side in each step; here the sides take turns, one for :data:`SIDE_STEPS` iterations.
        """
        width, height = size
        low, high = losses.patch_min // 2, losses.patch_max // 2
        turn = (iteration // SIDE_STEPS + 1) * GOLDEN % 1
        side = min(2 * (low + int(turn * (high - low + 1))), height, width)
        corner = torch.tensor([random_index(bound % side + 1, generator) for bound in (height, width)])
        count, most = (height // side) * (width // side), self._settings.patches
        chosen = torch.randperm(count, generator=generator)[:most] if 0 < most < count else None
        return Patches(side, corner, chosen)

    def patches(
        self,
        image: Float[Tensor, "1 H W 3"],
        target: Float[Tensor, "1 H W 3"],
        patches: Patches,
    ) -> Float[Tensor, ""]:
        """Mean distance of the patches that :meth:`draw` gave for images of this size."""
        ours, theirs = (cut_patches(each, patches.side, patches.corner) for each in (image, target))
        if patches.chosen is not None:
            chosen = patches.chosen.to(ours.device)
            ours, theirs = ours[chosen], theirs[chosen]
        return self.whole(ours, theirs)

    def whole(self, image: Float[Tensor, "B H W 3"], target: Float[Tensor, "B H W 3"]) -> Float[Tensor, ""]:
        """Mean distance of full images."""
        return lpips(self.distance, image, target)


def with_backbone(config: TrainConfig) -> TrainConfig:
    """The config with ``auto`` replaced by the backbone that this run has: alex (upstream's), vgg, squeeze or none.

    A run in which no stage has a perceptual weight has none. Logs one sentence where another replaces upstream's.
    """
    wanted = any(stage.iterations > 0 and stage.losses.perceptual for stage in config.stages)
    chosen = config.perceptual.backbone if wanted else NONE
    if chosen == "auto":
        chosen = found_backbone()
        if chosen != BACKBONES[0]:
            folders = " or ".join(str(folder) for folder in model_folders())
            _logger.info("perceptual terms by LPIPS (%s): the paper's, alex, is not in %s", chosen, folders)
    return replace(config, perceptual=replace(config.perceptual, backbone=chosen))


def make_perceptual(config: TrainConfig, device: torch.device | str) -> PerceptualTerm | None:
    """The run's perceptual term; None where the config (:func:`with_backbone`) has none.

    Raises:
        InputError: the files of the requested backbone are missing or do not fit.
    """
    chosen: Backbone | None = next((name for name in BACKBONES if name == config.perceptual.backbone), None)
    return None if chosen is None else PerceptualTerm(Lpips.open(chosen).to(device), chosen, config.perceptual)
