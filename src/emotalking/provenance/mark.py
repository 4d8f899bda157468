"""Put the invisible mark into finished 8-bit images: the pattern, as strong as the image hides it.

The same pattern is in every frame of a video: waves whose sign changes each second, and finer ones that stay. How
strong both are in an image is set by a model of the perceptual distance (LPIPS) that they make, mostly where the image
is smooth. Changes are smaller than a grey level: red, green and blue are rounded apart, so that their brightness
together takes seven steps between two levels. The same code runs on CPU and GPU.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from emotalking.provenance.pattern import KEY, SMALLEST_SIDE, pattern, still_pattern, swing, unit_of
from emotalking.provenance.payload import Payload

DISTANCE, STILL_SHARE = 0.0015, 0.28
"""Perceptual distance (LPIPS, squeeze) that the waves whose sign changes may make in an image, as the model has it; and
that of the waves that stay, as a share of it."""
STRONGEST, STRONGEST_ALONE, STRONGEST_STILL = 2.0, 1.2, 0.5
"""Largest deviations, in grey levels of 255, of the waves that change their sign, in videos and in images alone, where
texture drowns them, and of the waves that stay."""
_COST, _COST_ALONE, _COST_STILL, _FALL = 0.046, 0.085, 0.12, 1.81
"""The distance made by each of these with a deviation of one grey level where an image is smooth, and the power with
which it falls with texture; fitted to some 30 images of 256 to 590 pixels, of 16 people and of drawings. Photographs
differ from the model by a quarter; drawings of flawless smoothness cost up to 1.8 times as much."""
_SIDE, _SMALLER = 512, 0.8
"""The cost falls with that power of the shorter side below so many pixels."""
_FAINT, _SMOOTH = 0.7, (0.1, 0.6)
"""Share of the strength where the texture is at most the first of these, and the range over which it becomes whole."""
_GROWTH, _GROWTH_LARGE, _GROWTH_ALONE, _GROWTH_STILL = 0.9, 0.5, 0.3, 0.4
"""Power with which the strength grows further with texture: in videos, in large ones, whose parts hold enough of it,
in images alone, and of the waves that stay."""
_LARGE = 400
"""Shorter side in pixels from which a video is large."""
_CENTRE, _MORE = ((0.38, 0.25), (0.5, 0.2)), 1.0
"""Where heads are in images (place and width in shares of the height, and of the width), and how much stronger the mark
may be there: what is cut out of an image is mostly a head."""
_CELL = 8
"""Side of the cells in which texture is measured, units."""
_CLIP = 16.0
"""Differences of neighbouring pixels count up to so many levels: an edge is no texture."""
_DARK, _BRIGHT, _FADE = 6.0, 249.0, 16.0
"""Levels at which the mark vanishes, and the range over which it does."""
STEPS = 7
"""Steps of brightness to a grey level: none, then blue, red, both, green, with blue, with red, and all (.114, .299,
.413, .587, .701, .886 and 1 of Rec. 601: within .03 of sevenths)."""


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
    distance: float | None = None
    """Perceptual distance that the mark may make; None: :data:`DISTANCE`."""

    def __call__(
        self, images: UInt8[Tensor, "*batch H W C"], swings: Float[Tensor, " n"] | None = None
    ) -> UInt8[Tensor, "*batch H W C"]:
        """Marked copies; a fourth channel (alpha) stays as it is, and so do images too small to carry a mark.

        Args:
            images: RGB or RGBA with straight alpha, finished: whatever is composited later weakens the mark.
            swings: of frames of a video, the factor of each (:func:`~emotalking.provenance.pattern.swing`); None: 1,
                as for images that are shown alone.
        """
        *batch, height, width, channels = images.shape
        if channels not in (3, 4):
            raise ValueError(f"images: expected RGB or RGBA, got {channels} channels")
        if min(height, width) < SMALLEST_SIDE:
            return images.clone()
        frames = images.reshape(-1, height, width, channels)
        alone = swings is None
        waves = self.waves(height, width, images.device, alone=alone)
        out = torch.empty_like(frames)
        together = 1 if images.device.type == "cpu" else max(len(frames), 1)  # a CPU's caches hold one at a time
        factors = torch.ones(len(frames), device=images.device) if swings is None else swings.to(images.device)
        for some, by, marked in zip(frames.split(together), factors.split(together), out.split(together), strict=True):
            swinging, still = strength(some[..., 1], self.distance, alone=alone).unbind(-3)
            change = changes(swinging.mul_(waves[0]).mul_(by[:, None, None]).add_(still.mul_(waves[1])))
            marked[..., :3] = change.add_(some[..., :3]).clamp_(0, 255)
            marked[..., 3:] = some[..., 3:]
        return out.reshape(images.shape)

    def waves(self, height: int, width: int, device: torch.device, *, alone: bool = False) -> Float[Tensor, "2 H W"]:
        """The pattern in frames, or images alone, of this size: what changes its sign, and what stays."""
        return _pattern(self.payload, height, width, self.key, device, alone)

    def array(self, image: UInt8[np.ndarray, "H W C"], time: float | None = None) -> UInt8[np.ndarray, "H W C"]:
        """A marked copy of an array, shown at ``time`` [s] of a video; None: shown alone."""
        swings = None if time is None else torch.from_numpy(swing(np.array([time], np.float64)))
        return self(torch.from_numpy(np.ascontiguousarray(image)), swings).numpy()


def strength(
    green: UInt8[Tensor, "*batch H W"], distance: float | None = None, *, alone: bool = False
) -> Float[Tensor, "*batch 2 H W"]:
    """Deviation at each pixel, in grey levels of 255, of the waves that change their sign and of those that stay.

    Args:
        green: the image's green channel, which stands for its brightness.
        distance: see :class:`Mark`.
        alone: of images that are no frames of a video.
    """
    *batch, height, width = green.shape
    distance = DISTANCE if distance is None else distance
    cell = max(round(_CELL * unit_of(height, width)), 2)
    level = green.reshape(-1, 1, height, width).float()
    differences = F.pad((level[..., 1:] - level[..., :-1]).abs_(), (0, 1))
    differences[..., :-1, :] += (level[..., 1:, :] - level[..., :-1, :]).abs_()
    texture = _means(differences.clamp_(max=_CLIP), cell)
    texture = F.avg_pool2d(texture, 3, 1, 1, count_include_pad=False)
    mean = _means(level, cell)
    visible = (torch.minimum(mean - _DARK, _BRIGHT - mean) / _FADE).clamp_(0, 1)
    shares = ((texture - _SMOOTH[0]) / (_SMOOTH[1] - _SMOOTH[0])).clamp_(0, 1).mul_(1 - _FAINT).add_(_FAINT) * visible
    down, across = (
        torch.exp(-((((torch.arange(count, device=green.device) + 0.5) / count - place) / spread) ** 2) / 2)
        for count, (place, spread) in zip(shares.shape[-2:], _CENTRE, strict=True)
    )
    shares *= 1 + _MORE * down[:, None] * across
    growth = _GROWTH_LARGE if min(height, width) >= _LARGE else _GROWTH
    small = min(height / _SIDE, width / _SIDE, 1.0) ** _SMALLER
    swinging = (_GROWTH_ALONE, _COST_ALONE, STRONGEST_ALONE) if alone else (growth, _COST, STRONGEST)
    cells = []
    for share, (power, cost, most) in ((1.0, swinging), (STILL_SHARE, (_GROWTH_STILL, _COST_STILL, STRONGEST_STILL))):
        some = shares * (1 + texture).pow(power)
        made = (cost * small * (1 + texture).pow(-_FALL) * some**2).mean((-2, -1), keepdim=True)
        cells.append((some * (distance * share / made.clamp_(min=1e-9)).sqrt()).clamp_(max=most))
    both = torch.cat(cells, 1)
    size = (both.shape[-2] * cell, both.shape[-1] * cell)
    wide = F.interpolate(both, size, mode="bilinear", align_corners=False)[..., :height, :width]
    return wide.reshape(*batch, 2, height, width)


def changes(wanted: Float[Tensor, "*batch H W"]) -> Int[Tensor, "*batch H W 3"]:
    """Levels (int16) by which red, green and blue change the brightness by ``wanted`` levels, in steps of a seventh."""
    steps = (wanted * STEPS).round_()
    levels = (steps / STEPS).floor_()
    left = steps.sub_(levels, alpha=STEPS).to(torch.uint8)
    whole = levels.to(torch.int16)
    return torch.stack([whole + (left >> 1 & 1), whole + (left >> 2), whole + (left & 1)], -1)


def _means(values: Float[Tensor, "B 1 H W"], cell: int) -> Float[Tensor, "B 1 h w"]:
    """Means of cells; those at the right and lower edge may be smaller."""
    return F.avg_pool2d(values, cell, ceil_mode=True, count_include_pad=False)


@lru_cache(16)
def _pattern(
    payload: Payload, height: int, width: int, key: bytes, device: torch.device, alone: bool
) -> Float[Tensor, "2 H W"]:
    swinging = pattern(payload.code_word(), height, width, key, alone=alone)
    return torch.from_numpy(np.stack([swinging, still_pattern(height, width, key)])).to(device)
