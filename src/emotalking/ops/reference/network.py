"""Motion networks with gradient in torch: any device, any float type."""

import torch
from torch import Tensor

from emotalking.ops.network import Network


def offsets(network: Network, features: Tensor, codes: Tensor, bias: Tensor | None) -> Tensor:
    """See :func:`emotalking.ops.network.offsets`."""
    attended = [features.expand(len(codes), -1, -1)]
    begin = 0
    for each in network.maps:
        attention = (features @ each.inner.T).relu() @ each.outer.T
        attention = attention.relu() if each.rectified else attention
        attention = attention if each.share is None else attention * each.share
        end = begin + attention.shape[-1]
        attended.append(attention * codes[:, None, begin:end])
        begin = end
    hidden = torch.cat(attended, -1) @ network.first.T
    hidden = hidden if bias is None else hidden + bias[:, None, :]
    return (hidden.relu() @ network.second.T).relu() @ network.third.T
