"""Losses of the lip-aligned generator (paper S1-S5) and of EmoStyle's emotion mapping.

Faces are RGB in [0, 1], channel last; every function returns a scalar, the mean over the batch.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from emotalking.ops.reference.ssim import C1, C2, RADIUS, window
from emotalking.stylegan.critics import LIPS, FoundPoints

LIP_MARGIN = 0.15
"""Room around lips or eyes in their rectangle, in its larger side."""

EYES = slice(36, 48)
CHIN, BROWS = slice(17), slice(17, 27)
STILL = (slice(3), slice(14, 17), slice(27, 31))
"""Ends of the jaw line and bridge of the nose: landmarks that no expression moves. All as slices, because a list of
indices would be copied to the device on each use.

Deviation: EmoStyle's code takes five points of each end of the jaw, of which laughter moves the lower ones, and all 68
where the commanded emotion is the image's own."""

SURE = 0.6
"""Landmarks whose heat map stays below this are ignored (EmoStyle)."""

UNITS = 256
"""EmoStyle compares landmarks in pixels of images of this size."""

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of MS-SSIM's five scales (Wang et al. 2003)."""


def lip_landmark_loss(source: FoundPoints, made: FoundPoints) -> Float[Tensor, ""]:
    """S1: squared distance of the lips' landmarks, averaged over coordinates.

    Assumption: in pixels of the detector's heat maps (64 a side), its own units; the paper gives none.
    """
    return (source.points[:, LIPS] - made.points[:, LIPS]).square().mean()


def lip_rectangles(ibug68: Float[Tensor, "B 68 2"], size: int) -> Bool[Tensor, "B S S"]:
    """M of S2: pixels in a rectangle around the lips.

    Args:
        ibug68: landmarks in the crop, -1 to 1.
        size: pixels a side.
    """
    return _rectangles(ibug68[:, LIPS], size)


def eye_rectangles(ibug68: Float[Tensor, "B 68 2"], size: int) -> Bool[Tensor, "B S S"]:
    """Pixels in a rectangle around both eyes; as above."""
    return _rectangles(ibug68[:, EYES], size)


def _rectangles(points: Float[Tensor, "B K 2"], size: int) -> Bool[Tensor, "B S S"]:
    low, high = points.amin(1), points.amax(1)
    room = LIP_MARGIN * (high - low).amax(1, keepdim=True)
    places = (torch.arange(size, device=points.device) + 0.5) / size * 2 - 1
    inside = (places >= (low - room)[..., None]) & (places <= (high + room)[..., None])
    return inside[:, 1, :, None] & inside[:, 0, None, :]


def inside_loss(
    source: Float[Tensor, "B S S 3"], made: Float[Tensor, "B S S 3"], rectangle: Bool[Tensor, "B S S"]
) -> Float[Tensor, ""]:
    """S2 (with the lips' rectangle): mean absolute difference of colours inside it (zero where it is empty)."""
    off = ((source - made).abs().mean(3) * rectangle).sum((1, 2))
    return (off / rectangle.sum((1, 2)).clamp_min(1)).mean()


def modification_size(modification: Float[Tensor, "B L D"]) -> Float[Tensor, ""]:
    """S3: length of the modification, averaged over the styles of an image (EmoStyle's form)."""
    return torch.linalg.vector_norm(modification, dim=2).mean()


def emotion_loss(found: Float[Tensor, "B 2"], wanted: Float[Tensor, "B 2"]) -> Float[Tensor, ""]:
    """S4: squared difference of valence and arousal."""
    return (found - wanted).square().mean()


def identity_loss(source: Float[Tensor, "B D"], made: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """S5: absolute difference of the embeddings' numbers."""
    return (source - made).abs().mean()


def outside_face(ibug68: Float[Tensor, "B 68 2"], size: int) -> Bool[Tensor, "B S S"]:
    """Pixels outside the polygon of chin and brows (even-odd rule)."""
    ends = torch.cat([ibug68[:, CHIN], ibug68[:, BROWS].flip(1)], 1)
    places = (torch.arange(size, device=ibug68.device) + 0.5) / size * 2 - 1
    ax, ay = ends[:, :, None, None, 0], ends[:, :, None, None, 1]
    bx, by = ax.roll(-1, 1), ay.roll(-1, 1)
    x, y = places[None, None, None, :], places[None, None, :, None]
    rise = torch.where(by == ay, 1.0, by - ay)
    crossed = ((ay > y) != (by > y)) & (x < ax + (y - ay) / rise * (bx - ax))
    return crossed.sum(1) % 2 == 0


def background_loss(
    source: Float[Tensor, "B S S 3"], made: Float[Tensor, "B S S 3"], outside: Bool[Tensor, "B S S"]
) -> Float[Tensor, ""]:
    """EmoStyle: mean absolute difference outside the face."""
    return ((source - made).abs().mean(3) * outside).sum() / outside.sum().clamp_min(1)


def still_landmark_loss(source: FoundPoints, made: FoundPoints) -> Float[Tensor, ""]:
    """EmoStyle: squared distance of the landmarks that no expression moves, pixels of 256, if confident in both.

    Zero where there is none.
    """

    def still(values: Tensor) -> Tensor:
        return torch.cat([values[:, part] for part in STILL], 1)

    sure = (still(source.scores) > SURE) & (still(made.scores) > SURE)
    off = still(source.points - made.points) * (UNITS / source.maps.shape[-1])
    return (off.square().mean(2) * sure).sum() / sure.sum().clamp_min(1)


def reconstruction_loss(source: Float[Tensor, "B S S 3"], made: Float[Tensor, "B S S 3"]) -> Float[Tensor, ""]:
    """EmoStyle: .84 (1 - MS-SSIM) + .16 L1."""
    return 0.84 * (1 - ms_ssim(source, made)) + 0.16 * (source - made).abs().mean()


def ms_ssim(a: Float[Tensor, "B H W 3"], b: Float[Tensor, "B H W 3"]) -> Float[Tensor, ""]:
    """Structural similarity over scales (Wang et al. 2003), 11 x 11 Gaussian windows without padding.

    Images too small for five scales are compared at fewer, whose weights then sum to one.

    Args:
        a: images of at least 11 pixels a side, values in [0, 1].
        b: as above.
    """
    scales = min(len(SCALE_WEIGHTS), (min(a.shape[1:3]) // (2 * RADIUS + 1)).bit_length())
    weights = [weight / sum(SCALE_WEIGHTS[:scales]) for weight in SCALE_WEIGHTS[:scales]]
    x, y = a.permute(0, 3, 1, 2), b.permute(0, 3, 1, 2)
    out: Tensor = x.new_ones(())
    for scale, weight in enumerate(weights):
        luminance, contrast = _similarities(x, y)
        kept = contrast * luminance if scale == scales - 1 else contrast
        # Opposite contrasts would be a root of a negative number.
        out = out * kept.mean((2, 3)).clamp_min(1e-4) ** weight
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return out.mean()


def _similarities(x: Float[Tensor, "B 3 H W"], y: Float[Tensor, "B 3 H W"]) -> tuple[Tensor, Tensor]:
    """Maps of luminance's and of contrast's and structure's similarity."""
    taps = window(x.dtype, x.device)

    def smooth(z: Tensor) -> Tensor:
        planes = z.flatten(0, 1)[:, None]
        planes = F.conv2d(F.conv2d(planes, taps.view(1, 1, -1, 1)), taps.view(1, 1, 1, -1))
        return planes.view(*z.shape[:2], *planes.shape[2:])

    mean_x, mean_y = smooth(x), smooth(y)
    var_x, var_y = smooth(x * x) - mean_x**2, smooth(y * y) - mean_y**2
    both = smooth(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    return luminance, (2 * both + C2) / (var_x + var_y + C2)
