"""Alpha compositing of the layers of a talking head."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

SEAM_SHARE = 0.05
"""Share of the image's height over which the mouth's coverage is widened: 25 pixels of 512."""

DEPTH = 0.5
"""Brightness inside the mouth relative to its mean: of .35, .5 and 1 the most similar to the corners of real mouths."""


def over(
    front: Float[Tensor, "*batch H W D"], front_alpha: Float[Tensor, "*batch H W"], back: Float[Tensor, "*batch H W D"]
) -> Float[Tensor, "*batch H W D"]:
    """Premultiplied ``front`` over ``back``: ``front + back * (1 - front_alpha)``."""
    return front + back * (1 - front_alpha)[..., None]


def dilate(alpha: Float[Tensor, "*batch H W"], size: int) -> Float[Tensor, "*batch H W"]:
    """The largest value in a ``size`` x ``size`` window (odd) around each pixel."""
    if size < 1 or size % 2 == 0:
        raise ValueError(f"size: expected an odd number of pixels, got {size}")
    # Rows, then columns: the maximum over a square is separable.
    return _largest(_largest(alpha, size, -1), size, -2)


def _largest(values: Tensor, size: int, dim: int) -> Tensor:
    """The largest of ``size`` neighbours along ``dim``: windows joined in pairs, so log2(size) maxima a value.

    A max-pool of 25 x 1 is 50 times slower on a CPU.
    """
    padding = [0, 0] * (-dim - 1) + [size // 2, size // 2]
    widest = F.pad(values, padding, value=-torch.inf)
    reached = 1
    while reached < size:
        step = min(reached, size - reached)
        count = widest.shape[dim] - step
        widest = torch.maximum(widest.narrow(dim, 0, count), widest.narrow(dim, step, count))
        reached += step
    return widest


def mouth_coverage(
    mouth_alpha: Float[Tensor, "*batch H W"], frame_height: int | None = None
) -> Float[Tensor, "*batch H W"]:
    """Coverage of the background by the inside of the mouth: alpha widened by :data:`SEAM_SHARE` of the height.

    ``frame_height`` is that of the full frame where the layers are a window of it.

    Source: InsTaG widens by 13 pixels of 512, as TalkingGaussian's option does.
    Deviation: 25 pixels. Emotions pull the lips' corners further than any recorded frame, and background shone through
    gaps of up to 11 pixels between the lips and what the mouth's Gaussians cover.
    """
    height = mouth_alpha.shape[-2] if frame_height is None else frame_height
    return dilate(mouth_alpha, 2 * int(SEAM_SHARE * height / 2) + 1)


def composite(
    face_rgb: Float[Tensor, "*batch H W 3"],
    face_alpha: Float[Tensor, "*batch H W"],
    mouth_rgb: Float[Tensor, "*batch H W 3"],
    mouth_alpha: Float[Tensor, "*batch H W"],
    background: Float[Tensor, "*batch H W 3"],
    frame_height: int | None = None,
) -> tuple[Float[Tensor, "*batch H W 3"], Float[Tensor, "*batch H W"]]:
    """The finished frame: face over the inside of the mouth over torso and background plate (equations S9, S10).

    ``under = mouth + depth * (coverage - mouth_alpha) + background * (1 - coverage)``; ``frame = face + under * (1 -
    face_alpha)``; ``coverage`` is the mouth's alpha widened (:func:`mouth_coverage`), so that no background shines
    through the seam at the lips, and ``depth`` is the mouth's mean colour, darkened by :data:`DEPTH`.

    Deviation: in TalkingGaussian ``depth`` is black, which shows as dots and wedges where an emotion opens the lips'
    corners.

    Args:
        face_rgb: premultiplied colours (rendered over black).
        face_alpha: coverage in [0, 1].
        mouth_rgb: premultiplied colours.
        mouth_alpha: coverage in [0, 1].
        background: opaque, [0, 1].
        frame_height: pixels of the full frame where these layers are a window of it; None: they are the frame.

    Returns:
        Colours, not clipped, and coverage of head and mouth in [0, 1]. All inputs carry gradient.
    """
    coverage = mouth_coverage(mouth_alpha, frame_height)
    # No gradient through the gap: its colour is only an estimate of what the lips reveal.
    colour, covered = mouth_rgb.detach().sum((-3, -2)), mouth_alpha.detach().sum((-2, -1))
    depth = DEPTH * colour / covered.clamp(min=1.0)[..., None]
    gap = (coverage - mouth_alpha)[..., None] * depth[..., None, None, :]
    rgb = over(face_rgb, face_alpha, over(mouth_rgb + gap, coverage, background))
    return rgb, face_alpha + coverage * (1.0 - face_alpha)


def to_uint8(images: Float[Tensor, "*batch H W D"]) -> UInt8[np.ndarray, "*batch H W D"]:
    """Images in [0, 1] to uint8, clipped and rounded as for a file."""
    return (images.clamp(0.0, 1.0) * 255.0 + 0.5).to(torch.uint8).cpu().numpy()
