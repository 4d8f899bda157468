"""Layers of a talking head put over each other."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

DILATION = 13
"""Pixels: the window of the max-pool that widens the mouth's coverage (InsTaG's default)."""


def over(
    front: Float[Tensor, "*batch H W D"], front_alpha: Float[Tensor, "*batch H W"], back: Float[Tensor, "*batch H W D"]
) -> Float[Tensor, "*batch H W D"]:
    """Premultiplied ``front`` over ``back``: ``front + back * (1 - front_alpha)``."""
    return front + back * (1 - front_alpha)[..., None]


def dilate(alpha: Float[Tensor, "*batch H W"], size: int = DILATION) -> Float[Tensor, "*batch H W"]:
    """The largest value in a ``size`` x ``size`` window (odd) around each pixel."""
    if size < 1 or size % 2 == 0:
        raise ValueError(f"size: expected an odd number of pixels, got {size}")
    flat = alpha.reshape(-1, 1, *alpha.shape[-2:])
    # Rows, then columns: the maximum over a square is separable.
    rows = F.max_pool2d(flat, (1, size), stride=1, padding=(0, size // 2))
    return F.max_pool2d(rows, (size, 1), stride=1, padding=(size // 2, 0)).reshape(alpha.shape)


def composite(
    face_rgb: Float[Tensor, "*batch H W 3"],
    face_alpha: Float[Tensor, "*batch H W"],
    mouth_rgb: Float[Tensor, "*batch H W 3"],
    mouth_alpha: Float[Tensor, "*batch H W"],
    background: Float[Tensor, "*batch H W 3"],
    *,
    dilate_mouth: bool = False,
) -> Float[Tensor, "*batch H W 3"]:
    """The finished frame: face over the inside of the mouth over torso and background plate (equations S9, S10).

    ``under = mouth + background * (1 - mouth_alpha)``; ``frame = face + under * (1 - face_alpha)``.

    Args:
        face_rgb: premultiplied colours (rendered over black).
        face_alpha: coverage in [0, 1].
        mouth_rgb: premultiplied colours.
        mouth_alpha: coverage in [0, 1].
        background: opaque, [0, 1].
        dilate_mouth: the background sees the mouth's coverage widened by a 13 x 13 maximum, so that no light background
            shines through the seam between lips and mouth.

    Returns:
        Colours, not clipped. All inputs carry gradient.
    """
    covering = dilate(mouth_alpha) if dilate_mouth else mouth_alpha
    return over(face_rgb, face_alpha, over(mouth_rgb, covering, background))
