"""Fields inverted and images moved along them in torch: any device, any float type."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from emotalking.ops.warp import ROUNDS, sources


def invert_field(planes: Tensor, places: Tensor, jacobian: Tensor, scale: int, step: int) -> tuple[Tensor, Tensor]:
    """See :func:`emotalking.ops.warp.invert_field`."""
    xy, on = F.interpolate(places, scale_factor=scale, mode="bilinear").split((2, 1), 1)
    last = planes.new_tensor([planes.shape[3] - 1, planes.shape[2] - 1])
    sampled = F.grid_sample(
        planes, xy.permute(0, 2, 3, 1) / last * 2 - 1, mode="bilinear", padding_mode="zeros", align_corners=True
    )
    sampled = sampled * on
    forward = torch.einsum("bij,bjmn->bimn", jacobian, sampled[:, :2])
    flow = -forward
    for number in range(ROUNDS):
        where = sources(flow / step, *flow.shape[2:])
        found = -F.grid_sample(forward, where, mode="bilinear", padding_mode="border", align_corners=False)
        flow = found if number else (flow + found) / 2
    where = sources(flow / step, *flow.shape[2:])
    return flow, F.grid_sample(sampled[:, 2:], where, mode="bilinear", padding_mode="border", align_corners=False)


def remap(
    images: Tensor, labels: Tensor, flow: Tensor, log_gain: Tensor, lit: int, colour: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """See :func:`emotalking.ops.warp.remap`."""
    height, width = images.shape[2:]
    share = (labels == lit).to(images.dtype)[:, None]
    share = F.avg_pool2d(share, 5, stride=1, padding=2, count_include_pad=False)
    if log_gain.shape[3] < width:
        log_gain = F.interpolate(log_gain, scale_factor=2, mode="bilinear")
    log_gain = log_gain[..., :height, :width]
    where = sources(flow, height, width)
    new = F.grid_sample(
        torch.cat([images, share], 1), where, mode="bicubic", padding_mode="border", align_corners=False
    )
    gain = torch.exp(log_gain * new[:, -1:].clamp(0, 1) * new.new_tensor(colour)[:, None, None])
    moved_labels = F.grid_sample(
        labels[:, None].to(images.dtype), where, mode="nearest", padding_mode="border", align_corners=False
    )
    return torch.cat([new[:, :3] * gain, new[:, 3:-1]], 1), moved_labels[:, 0].round().to(torch.uint8)
