"""Sync loss: distance of lip and audio embeddings of a frozen expert (paper eq. 9)."""

from jaxtyping import Float
from torch import Tensor


def sync_distance(lips: Float[Tensor, "B D"], audio: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """Squared L2 distance of B lip embeddings from the embeddings of their audio, mean over the B windows (eq. 9).

    The sum over D is not divided by D, as the paper writes it: the scale is the expert's own.
    """
    return (lips - audio).square().sum(-1).mean()
