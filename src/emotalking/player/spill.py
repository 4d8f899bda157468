"""Colour of the recorded background that bled into the outline of the person, removed where another is shown.

Video stores colour at half the resolution and compresses it strongly: over a blue wall hair, ears and shoulders have a
blue rim of some five pixels of 512, which heads learn. Over the wall it belongs there, over anything else it shows.
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from emotalking.ops.composite import LUMA, dilate

REACH = 0.012
"""How far inside the outline colours may be wrong, share of the frame's height."""
LEAST = 0.03
"""Backgrounds whose colour is nearer to the person's than this (distance of chroma, 0 to 1) leave no rim to be seen."""
COLOURED = 0.06
"""Backgrounds of which all but a twentieth has less chroma than this leave no rim either."""
_KNOWN = 0.02
"""Share of certain pixels around one from which on their colour is trusted."""


def spilling_colour(plate: UInt8[np.ndarray, "H W 3"], device: torch.device) -> Float[Tensor, "1 3 h w"] | None:
    """Chroma of a background as :func:`without_spill` takes it, at half the resolution; None: it has hardly any."""
    opaque = np.concatenate([plate, np.full_like(plate[..., :1], 255)], -1)
    chroma = _chroma(_half(torch.from_numpy(opaque)[None])[0])
    return None if chroma.norm(dim=1).quantile(0.95) < COLOURED else chroma.to(device)


@torch.no_grad()
def without_spill(frames: UInt8[Tensor, "B H W 4"], spilt: Float[Tensor, "1 3 h w"]) -> UInt8[Tensor, "B H W 4"]:
    """The frames without the background's colour near their outline; brightness and alpha stay.

    Near the outline, what a pixel's chroma differs from that of the certain pixels around it, towards the background's
    chroma, is taken away. All of it at half the resolution, which is that of colour in video.

    Args:
        frames: RGB and straight alpha.
        spilt: the background's chroma (:func:`spilling_colour`).
    """
    reach = max(1, round(REACH * frames.shape[1] / 2))
    colours, alpha = _half(frames)
    chroma = _chroma(colours)
    certain = 1.0 - dilate(1.0 - alpha, 2 * reach + 1)
    around = _blurred(torch.cat([chroma * certain, certain], 1), reach)
    own = around[:, :3] / around[:, 3:].clamp_min(1e-4)
    away = spilt - own
    length = away.square().sum(1, keepdim=True)
    share = ((chroma - own) * away).sum(1, keepdim=True) / length.clamp_min(1e-6)
    near = _blurred(1.0 - certain, 1) * (around[:, 3:] / _KNOWN).clamp(max=1.0) * (length > LEAST**2)
    taken = 255.0 * share.clamp(0.0, 1.0) * near * away
    # Weighted, since nothing is known of the colours where alpha is 0.
    weighted = torch.cat([taken * alpha, alpha], 1)
    weighted = F.interpolate(weighted, size=frames.shape[1:3], mode="bilinear", align_corners=False)
    whole = (weighted[:, :3] / weighted[:, 3:].clamp_min(1e-4)).round_().to(torch.int16)
    colours = (frames[..., :3].to(torch.int16) - whole.permute(0, 2, 3, 1)).clamp_(0, 255)
    return torch.cat([colours.to(torch.uint8), frames[..., 3:]], -1)


def _half(images: UInt8[Tensor, "B H W 4"]) -> tuple[Float[Tensor, "B 3 h w"], Float[Tensor, "B 1 h w"]]:
    """Colours and alpha in [0, 1] at half the resolution; an odd last row or column is left out."""
    height, width = (size // 2 * 2 for size in images.shape[1:3])
    parts = [images[:, row:height:2, column:width:2].float() for row in (0, 1) for column in (0, 1)]
    alpha = torch.stack([part[..., 3:] for part in parts]).sum(0)
    colours = torch.stack([part[..., :3] * part[..., 3:] for part in parts]).sum(0)
    colours = colours / (255.0 * alpha).clamp_min(1.0)
    return colours.permute(0, 3, 1, 2), alpha.permute(0, 3, 1, 2) / 1020.0


def _chroma(images: Float[Tensor, "B 3 h w"]) -> Float[Tensor, "B 3 h w"]:
    """What is left without brightness."""
    return images - torch.einsum("bchw,c->bhw", images, images.new_tensor(LUMA))[:, None]


def _blurred(planes: Float[Tensor, "B C h w"], reach: int) -> Float[Tensor, "B C h w"]:
    """Two means of squares of ``2 reach + 1`` pixels, one after the other."""
    for dim in (-1, -2, -1, -2):
        planes = _means(planes, reach, dim)
    return planes


def _means(planes: Tensor, reach: int, dim: int) -> Tensor:
    """Means of ``2 reach + 1`` neighbours along ``dim``, as differences of a running sum."""
    size = 2 * reach + 1
    padding = [0, 0] * (-dim - 1) + [reach + 1, reach]
    sums = F.pad(planes, [*padding, *[0, 0] * (2 + dim)], mode="replicate").cumsum(dim)
    count = planes.shape[dim]
    return (sums.narrow(dim, size, count) - sums.narrow(dim, 0, count)) / size
