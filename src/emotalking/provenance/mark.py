"""Put the invisible mark into finished 8-bit images: the pattern, as strong as the image hides it.

The same pattern is in every frame of a video, so nothing flickers and a detector can average frames. It is weak where
the image is smooth, strong where it has texture, and missing in blacks and whites. The same code runs on CPU and GPU.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from emotalking.provenance.pattern import KEY, REFERENCE_SIDE, SMALLEST_SIDE, pattern, unit_of
from emotalking.provenance.payload import Payload

STRENGTH = (0.55, 1.8)
"""Deviation of the mark in smooth and in textured parts, in grey levels of 255."""
_SMALL = 1.2
"""Factor of the former in images of at most 355 pixels a side, which have fewer pixels to carry the mark."""
_CELL = 8
"""Side of the cells in which texture is measured, units."""
_CLIP = 16.0
"""Differences of neighbouring pixels count up to so many levels: an edge is no texture."""
_TEXTURE = (0.5, 4.0)
"""Mean difference of neighbours, both ways together, at which a cell counts as smooth and as fully textured."""
_DARK, _BRIGHT, _FADE = 6.0, 249.0, 16.0
"""Levels at which the mark vanishes, and the range over which it does."""


@dataclass(frozen=True)
class Mark:
    """Mark images of one payload; patterns are kept per size and device.

    Example:
        >>> mark = Mark(Payload.of_avatar(sha256))
        >>> marked = mark(frames)  # uint8 [..., H, W, 3 or 4]
    """

    payload: Payload
    """What the mark says."""
    key: bytes = KEY
    """Of the pattern; another one than the public key is invisible to ``verify``."""

    def __call__(self, images: UInt8[Tensor, "*batch H W C"]) -> UInt8[Tensor, "*batch H W C"]:
        """Marked copies; a fourth channel (alpha) stays as it is, and so do images too small to carry a mark.

        Args:
            images: RGB or RGBA with straight alpha, finished: whatever is composited later weakens the mark.
        """
        *batch, height, width, channels = images.shape
        if channels not in (3, 4):
            raise ValueError(f"images: expected RGB or RGBA, got {channels} channels")
        if min(height, width) < SMALLEST_SIDE:
            return images.clone()
        frames = images.reshape(-1, height, width, channels)
        waves = self.waves(height, width, images.device)
        out = torch.empty_like(frames)
        together = 1 if images.device.type == "cpu" else max(len(frames), 1)  # a CPU's caches hold one at a time
        for some, marked in zip(frames.split(together), out.split(together), strict=True):
            change = (strength(some[..., 1]) * waves).round_().to(torch.int16)[..., None]
            marked[..., :3] = (some[..., :3] + change).clamp_(0, 255)
            marked[..., 3:] = some[..., 3:]
        return out.reshape(images.shape)

    def waves(self, height: int, width: int, device: torch.device) -> Float[Tensor, "H W"]:
        """The pattern in images of this size."""
        return _pattern(self.payload, height, width, self.key, device)

    def array(self, image: UInt8[np.ndarray, "H W C"]) -> UInt8[np.ndarray, "H W C"]:
        """A marked copy of an array."""
        return self(torch.from_numpy(np.ascontiguousarray(image))).numpy()


def strength(green: UInt8[Tensor, "*batch H W"]) -> Float[Tensor, "*batch H W"]:
    """Deviation of the mark at each pixel, in grey levels of 255.

    Args:
        green: the image's green channel, which stands for its brightness.
    """
    *batch, height, width = green.shape
    cell = max(round(_CELL * unit_of(height, width)), 2)
    level = green.reshape(-1, 1, height, width).float()
    differences = torch.zeros_like(level)
    differences[..., :-1] += (level[..., 1:] - level[..., :-1]).abs_()
    differences[..., :-1, :] += (level[..., 1:, :] - level[..., :-1, :]).abs_()
    texture = _means(differences.clamp_(max=_CLIP), cell)
    texture = F.avg_pool2d(texture, 3, 1, 1, count_include_pad=False)
    share = ((texture - _TEXTURE[0]) / (_TEXTURE[1] - _TEXTURE[0])).clamp_(0, 1)
    mean = _means(level, cell)
    visible = (torch.minimum(mean - _DARK, _BRIGHT - mean) / _FADE).clamp_(0, 1)
    smooth = STRENGTH[0] * min(max((REFERENCE_SIDE / min(height, width)) ** 0.5, 1.0), _SMALL)
    cells = (smooth + (STRENGTH[1] - smooth) * share) * visible
    size = (cells.shape[-2] * cell, cells.shape[-1] * cell)
    wide = F.interpolate(cells, size, mode="bilinear", align_corners=False)[..., :height, :width]
    return wide.reshape(*batch, height, width)


def _means(values: Float[Tensor, "B 1 H W"], cell: int) -> Float[Tensor, "B 1 h w"]:
    """Means of cells; those at the right and lower edge may be smaller."""
    return F.avg_pool2d(values, cell, ceil_mode=True, count_include_pad=False)


@lru_cache(16)
def _pattern(payload: Payload, height: int, width: int, key: bytes, device: torch.device) -> Float[Tensor, "H W"]:
    return torch.from_numpy(pattern(payload.code_word(), height, width, key)).to(device)
