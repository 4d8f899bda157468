"""Moves of single points of a face: the generator's fields, read once where the points are."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor


class PointFields(NamedTuple):
    """What :meth:`~emotalking.emotion.mesh_warp.warp.MeshWarp.fields_at` reads at N points of the head frame."""

    skin: Float[Tensor, "N columns 2"]
    """World units for each coefficient at 1, parallel to the face."""
    edges: Float[Tensor, "N columns 2"]
    """The same of lids and lips."""
    reach: Float[Tensor, "N 2"]
    """Longest move of the skin, world units: down or sideways, and up."""

    def moves(
        self, coefficients: Float[Tensor, "B columns"], chosen: Int64[Tensor, " P"] | None = None
    ) -> Float[Tensor, "B P 3"]:
        """Moves of all points, or of those that are ``chosen``."""
        skin, edges, reach = self if chosen is None else (field[chosen] for field in self)
        slid, drawn = (torch.einsum("bc,nck->bnk", coefficients, field) for field in (skin, edges))
        return F.pad(slid * limit(slid, reach, slid[..., 1:] > 0, -1) + drawn, (0, 1))


def limit(moves: Tensor, reach: Tensor, up: Tensor, axis: int) -> Tensor:
    """Factor that keeps moves within their reach: 1 for short ones.

    A soft limit: v / (1 + (|v| / reach)^4)^(1/4) is v itself for short moves and never longer than the reach.

    Args:
        moves: x and y along ``axis``.
        reach: along it, that of moves down or sideways and that of moves up.
        up: whether a move is up, of size 1 along it.
        axis: of all three.
    """
    (x, y), (usual, raised) = moves.split(1, axis), reach.split(1, axis)
    ratio = (x / usual).square() + (y / torch.where(up, raised, usual)).square()
    return (1 + ratio.square()) ** -0.25
