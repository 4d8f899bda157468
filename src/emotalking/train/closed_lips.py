"""The code that closes this person's lips, learned from the training frames at the end of training."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emotalking.models.head import TalkingHead
from emotalking.train.data import TrainingData

CLOSED_SHARE = 0.1
"""The frames with the least opening between the tracked lips. Quiet frames are no guide: many people rest with their
lips parted (one reporter's are 7 px apart in pauses, and 2 px when closed)."""
_BATCH = 256
_ROUNDS = 30


@torch.no_grad()
def learn_closed_lips(head: TalkingHead, data: TrainingData) -> None:
    """Give both audio encoders the geometric median of their codes over the frames whose lips are closed.

    The median of a trained space of codes: single frames give distorted faces, and a mean follows the odd ones.
    """
    opening = np.where(np.isfinite(data.mouth_opening), data.mouth_opening, np.inf)
    count = max(1, round(CLOSED_SHARE * data.count))
    frames = np.sort(np.argsort(opening, kind="stable")[:count])
    for branch in (head.face, head.mouth):
        parts = [
            branch.audio(data.conditions.audio[torch.from_numpy(part).to(data.device)])
            for part in np.array_split(frames, -(-count // _BATCH))
        ]
        branch.audio.closed = geometric_median(torch.cat(parts))


def geometric_median(points: Float[Tensor, "N D"]) -> Float[Tensor, " D"]:
    """The point with the least sum of distances to ``points`` (Weiszfeld 1937)."""
    middle = points.mean(0)
    for _ in range(_ROUNDS):
        weights = 1.0 / (points - middle).norm(dim=1).clamp(min=1e-6)
        middle = (weights[:, None] * points).sum(0) / weights.sum()
    return middle
