"""Motion networks in torch: any device, any float type."""

import torch
import torch.nn.functional as F
from torch import Tensor

from emotalking.ops.motion import EmotionNetwork, FixedBranch
from emotalking.ops.triplane import encode


@torch.no_grad()
def move(
    branch: FixedBranch, codes: Tensor, bias: Tensor | None, emotion_codes: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`emotalking.ops.motion.move`."""
    hidden = branch.hidden + branch.attention @ (branch.first * codes[:, None, :]).transpose(1, 2)
    if bias is not None:
        hidden = hidden + bias[:, None, :]
    offsets = _behind_first(hidden, branch.second, branch.third)
    if branch.share is not None:
        offsets = offsets * branch.share[:, None]
    moved = branch.gaussians + offsets
    if emotion_codes is not None:
        assert branch.emotion is not None
        moved = branch.gaussians + (offsets + _emotion(branch.emotion, moved[..., :3], emotion_codes))
    return moved[..., :3], moved[..., 3:7], F.softplus(moved[..., 7:])


def _behind_first(hidden: Tensor, second: Tensor, third: Tensor) -> Tensor:
    return (hidden.relu() @ second.T).relu() @ third.T


def _emotion(network: EmotionNetwork, means: Tensor, codes: Tensor) -> Tensor:
    features = encode(means, network.table, network.spec)
    inner, outer = network.attention
    attention = ((features @ inner.T).relu() @ outer.T).relu()
    hidden = torch.cat([features, attention * codes[:, None, :]], -1) @ network.first.T
    return _behind_first(hidden, network.second, network.third)
