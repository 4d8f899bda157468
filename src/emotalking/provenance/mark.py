"""Put the invisible mark into finished 8-bit images: the pattern, as strong as the image hides it.

The same pattern is in every frame of a video: waves whose sign changes each second, and finer ones that stay. How
strong both are in an image is set by a model of the perceptual distance (LPIPS) that they make, mostly where the image
is smooth. Changes are smaller than a grey level: red, green and blue are rounded apart, so that their brightness
together takes seven steps between two levels (:mod:`emotalking.ops.waves`).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from emotalking.ops.waves import Hiding, add_waves
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
_CLIP = 16
"""Differences of neighbouring pixels count up to so many levels: an edge is no texture."""
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
        factors = torch.ones(len(frames), device=images.device) if swings is None else swings.to(images.device)
        waves = self.waves(height, width, images.device, alone=alone)
        marked = add_waves(frames, waves, factors, hiding(height, width, self.distance, alone=alone))
        return marked.reshape(images.shape)

    def waves(self, height: int, width: int, device: torch.device, *, alone: bool = False) -> Float[Tensor, "2 H W"]:
        """The pattern in frames, or images alone, of this size: what changes its sign, and what stays."""
        return _pattern(self.payload, height, width, self.key, device, alone)

    def array(self, image: UInt8[np.ndarray, "H W C"], time: float | None = None) -> UInt8[np.ndarray, "H W C"]:
        """A marked copy of an array, shown at ``time`` [s] of a video; None: shown alone."""
        swings = None if time is None else torch.from_numpy(swing(np.array([time], np.float64)))
        return self(torch.from_numpy(np.ascontiguousarray(image)), swings).numpy()


def hiding(height: int, width: int, distance: float | None = None, *, alone: bool = False) -> Hiding:
    """How strong the waves that change their sign and those that stay may be in images of one size.

    Args:
        distance: see :class:`Mark`.
        alone: of images that are no frames of a video.
    """
    distance = DISTANCE if distance is None else distance
    growth = _GROWTH_LARGE if min(height, width) >= _LARGE else _GROWTH
    small = min(height / _SIDE, width / _SIDE, 1.0) ** _SMALLER
    power, cost, strongest = (_GROWTH_ALONE, _COST_ALONE, STRONGEST_ALONE) if alone else (growth, _COST, STRONGEST)
    return Hiding(
        cell=max(round(_CELL * unit_of(height, width)), 2),
        clip=_CLIP,
        growth=(power, _GROWTH_STILL),
        cost=(cost * small, _COST_STILL * small),
        distance=(distance, distance * STILL_SHARE),
        strongest=(strongest, STRONGEST_STILL),
        smooth=_SMOOTH,
        down=_CENTRE[0],
        across=_CENTRE[1],
        fall=_FALL,
        faint=_FAINT,
        dark=_DARK,
        bright=_BRIGHT,
        fade=_FADE,
        more=_MORE,
    )


@lru_cache(16)
def _pattern(
    payload: Payload, height: int, width: int, key: bytes, device: torch.device, alone: bool
) -> Float[Tensor, "2 H W"]:
    swinging = pattern(payload.code_word(), height, width, key, alone=alone)
    return torch.from_numpy(np.stack([swinging, still_pattern(height, width, key)])).to(device)
