"""Interface of the frozen networks in the generator's losses: emotion, landmarks, identity of FFHQ-aligned faces."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

LIPS = slice(48, 68)
"""Indices among the iBUG landmarks."""

REACH = 3
"""Radius in pixels around a heat map's maximum over which the landmark is averaged."""


@dataclass(frozen=True)
class FoundPoints:
    """Output of a landmark detector."""

    maps: Float[Tensor, "B 68 M M"]
    """Heat maps, about 1 where a landmark is."""
    points: Float[Tensor, "B 68 2"]
    """(x, y) in the maps' pixels, with pixel centres at .5; differentiable."""

    @property
    def lips(self) -> Float[Tensor, "B 20 M M"]:
        """Maps of the lips, which the lip encoder reads."""
        return self.maps[:, LIPS]

    @property
    def scores(self) -> Float[Tensor, "B 68"]:
        """Highest value of each map."""
        return self.maps.flatten(2).amax(2)


def read_maps(maps: Float[Tensor, "B K M M"]) -> Float[Tensor, "B K 2"]:
    """Landmarks (x, y) in pixels of their maps, with pixel centres at .5: the centroid around each maximum.

    Deviation: the detectors' own rule moves a quarter of a pixel towards the higher neighbour, which has no gradient.
    """
    size = maps.shape[-1]
    best = maps.detach().flatten(2).argmax(2)
    places = torch.arange(size, device=maps.device)
    near_x = (places - best[..., None] % size).abs() <= REACH
    near_y = (places - best[..., None] // size).abs() <= REACH
    weights = maps.clamp_min(0) * (near_y[..., :, None] & near_x[..., None, :])
    total = weights.sum((2, 3)).clamp_min(1e-6)
    centres = places.to(maps.dtype) + 0.5
    x, y = (weights.sum(2) * centres).sum(2), (weights.sum(3) * centres).sum(2)
    return torch.stack([x, y], 2) / total[..., None]


@runtime_checkable
class FaceCritics(Protocol):
    """Frozen networks; everything is differentiable in the images.

    Faces are RGB in [0, 1]; ``ibug68`` are the source's landmarks in the crop, -1 to 1: where published networks need
    another crop it is derived from them, and source and result get the same one.
    """

    def emotion(self, faces: Float[Tensor, "B S S 3"], ibug68: Float[Tensor, "B 68 2"]) -> Float[Tensor, "B 2"]:
        """Valence and arousal, not bounded."""
        ...

    def points(self, faces: Float[Tensor, "B S S 3"], ibug68: Float[Tensor, "B 68 2"]) -> FoundPoints:
        """Landmarks; their maps are 64 pixels a side."""
        ...

    def identity(self, faces: Float[Tensor, "B S S 3"], ibug68: Float[Tensor, "B 68 2"]) -> Float[Tensor, "B D"]:
        """Embeddings of unit length."""
        ...
