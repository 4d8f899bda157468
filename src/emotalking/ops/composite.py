"""Alpha compositing of the layers of a talking head, and seamless cloning of rectangles."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
"""Share of red, green and blue in the brightness of a pixel (ITU-R BT.601)."""

SEAM_SHARE = 0.07
"""Share of the image's height over which the mouth's coverage is widened: 35 pixels of 512."""

RIM = 3
"""Width in pixels of the border in which OpenCV keeps the gradients of the target image."""


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


def reach_of(frame_height: int) -> int:
    """Pixels to either side by which the mouth's coverage is widened."""
    return int(SEAM_SHARE * frame_height / 2)


def mouth_coverage(
    mouth_alpha: Float[Tensor, "*batch H W"], frame_height: int | None = None
) -> Float[Tensor, "*batch H W"]:
    """Coverage of the background by the inside of the mouth: alpha widened by :data:`SEAM_SHARE` of the height.

    ``frame_height`` is that of the full frame where the layers are a window of it.

    Source: InsTaG widens by 13 pixels of 512, as TalkingGaussian's option does.
    Deviation: 35 pixels. Emotions pull the lips' corners further than any recorded frame, and background shone through
    gaps of up to 16 pixels between the lips and what the mouth's Gaussians cover.
    """
    height = mouth_alpha.shape[-2] if frame_height is None else frame_height
    return dilate(mouth_alpha, 2 * reach_of(height) + 1)


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
    through the seam at the lips, and ``depth`` is the mouth's mean colour squared: light that the mouth has reflected
    twice, dark red as the corners of real mouths (recorded (79, 20, 23) and (71, 37, 30), this (88, 35, 37) and (68,
    35, 30)).

    Deviation: in TalkingGaussian ``depth`` is black, which shows as dots and wedges where an emotion opens the lips'
    corners; half of the mean, mostly that of teeth, shows as grey wedges.

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
    depth = (colour / covered.clamp(min=1.0)[..., None]).square()
    gap = (coverage - mouth_alpha)[..., None] * depth[..., None, None, :]
    rgb = over(face_rgb, face_alpha, over(mouth_rgb + gap, coverage, background))
    return rgb, face_alpha + coverage * (1.0 - face_alpha)


def quantised(images: Float[Tensor, "*batch H W D"]) -> UInt8[Tensor, "*batch H W D"]:
    """Images in [0, 1] in 8 bit, clipped and rounded as for a file."""
    return (images.clamp(0.0, 1.0) * 255.0 + 0.5).to(torch.uint8)


def to_uint8(images: Float[Tensor, "*batch H W D"]) -> UInt8[np.ndarray, "*batch H W D"]:
    """:func:`quantised` images as an array on the host."""
    return quantised(images).cpu().numpy()


def _sines(count: int, like: Tensor) -> tuple[Float[Tensor, "n n"], Float[Tensor, " n"]]:
    """The orthonormal sine transform DST-I, which is its own inverse, and the eigenvalues of the second difference."""
    k = torch.arange(1, count + 1, device=like.device, dtype=torch.float64)
    matrix = torch.sin(k[:, None] * k * (math.pi / (count + 1))) * math.sqrt(2 / (count + 1))
    return matrix.to(like.dtype), (2 - 2 * torch.cos(k * (math.pi / (count + 1)))).to(like.dtype)


def solve_poisson(load: Float[Tensor, "*B m n"]) -> Float[Tensor, "*B m n"]:
    """The surface whose second differences are ``-load`` and which is zero in a ring of pixels around (Dirichlet).

    Exact and in closed form: four products with sine matrices. Differentiable.
    """
    rows, row_values = _sines(load.shape[-2], load)
    columns, column_values = _sines(load.shape[-1], load)
    return rows @ ((rows @ load @ columns) / (row_values[:, None] + column_values)) @ columns


def seamless_clone(target: Float[Tensor, "*B h w"], patch: Float[Tensor, "*B h w"]) -> Float[Tensor, "*B h w"]:
    """Clone ``patch`` into ``target``: gradients of ``patch``, border values of ``target``.

    The Poisson equation with Dirichlet border, as in OpenCV's ``seamlessClone`` with ``NORMAL_CLONE`` and a mask that
    is the full rectangle (including that the outermost :data:`RIM` pixels have the gradients of ``target``), but
    batched, differentiable, not rounded to 8 bits and not clipped.

    Args:
        target: planes of the target image; h and w more than ``2 * RIM``.
        patch: planes to be cloned there.

    Raises:
        ValueError: if nothing is left between the rims.
    """
    height, width = target.shape[-2:]
    if min(height, width) <= 2 * RIM:
        raise ValueError(f"a rectangle must be more than {2 * RIM} pixels wide and high, got {height} x {width}")
    # The result is target + w, and the gradient of w is to be that of the difference inside the rim.
    change = torch.zeros_like(target)
    difference = patch - target
    middle = (..., slice(RIM, height - RIM), slice(RIM, width - RIM))
    load = torch.zeros_like(target)
    for axis in (-2, -1):
        step = change.clone()
        step[middle] = (difference.roll(-1, axis) - difference)[middle]
        load = load + step.roll(1, axis) - step
    inner = (..., slice(1, -1), slice(1, -1))
    change[inner] = solve_poisson(load[inner])
    return target + change
