"""Lids slide over eyeballs: keep irises round and gaze still under moving lids, and turn eyeballs under still ones.

A plain warp stretches an iris when lids part and squeezes it when they close. Here the image between the moved lid
edges is redrawn: the eyeball stays in place, and what parting lids uncover of it is filled from what was visible at
the same distance from the iris's centre (an iris is round), darkened as under a lid. Where the eyeball turns, the iris
moves as it is, and the white is stretched or pressed together between it and the eye's corners.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from emotalking.data.layouts import FaceLayout
from emotalking.ops.box import Box

EDGE = 0.012
"""Lid edge with its lashes, drawn with the lid; lengths are in eye-centre distances."""
LASH_SHADE, LOWER_SHADE = 0.025, 0.015
"""Depth of the shadow on the eyeball under the old upper lid and over the lower one: it moves with the lid."""
SIDES_BLEND = 0.05
"""Half width around the iris's middle over which the fill passes from its left to its right side."""
SHADE_DEPTH, SHADE = 0.06, 0.3
"""Reach and strength of the moved lid's own shadow on what it uncovered."""
LEAST_SEEN = 0.012
"""Height of iris that lowered lids leave uncovered above its centre, in eye-centre distances (0.8 mm; 4 mm at rest):
with less of it an eye that rests half closed seems to roll up."""
PATCH_HALF = (0.26, 0.34)
"""Half height and half width of the patch around an eye."""
IRIS_REACH = 0.105
"""Around the middle of an iris (radius .093, in all people), where all moves as it does."""
LEAST_WHITE = 0.02
"""To which the white between an iris and the eye's corner is pressed together at most."""


class EyeIndices:
    """Landmarks of both eyes, [2, n] each, ordered from the image's left to its right."""

    def __init__(self, layout: FaceLayout) -> None:
        right = [layout.right_upper_lid, layout.right_lower_lid]
        left = [layout.left_upper_lid[::-1], layout.left_lower_lid[::-1]]
        self.upper, self.lower = (_stack(a, b) for a, b in zip(right, left, strict=True))
        has_iris = bool(layout.right_iris and layout.left_iris)
        self.iris = torch.tensor([layout.right_iris[:1], layout.left_iris[:1]]) if has_iris else None

    def to(self, device: torch.device | str) -> None:
        """Move the indices."""
        self.upper, self.lower = self.upper.to(device), self.lower.to(device)
        self.iris = None if self.iris is None else self.iris.to(device)

    def centres(self, landmarks: Float[Tensor, "B K 2"]) -> Float[Tensor, "B 2 2"]:
        """Of both irises; where the layout has none, of the lids."""
        if self.iris is None:
            return torch.cat([landmarks[:, self.upper], landmarks[:, self.lower]], 2).mean(2)
        return landmarks[:, self.iris[:, 0]]

    def room_to_fall(self, landmarks: Float[Tensor, "B K 2"], drop: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Share of a ``drop`` of the upper lids (eye-centre distances) after which the irises are still seen."""
        centres, upper = self.centres(landmarks), landmarks[:, self.upper].flatten(0, 1)
        unit = (centres[:, 1] - centres[:, 0]).norm(dim=1).clamp(min=1e-6)
        local = _EyeAxes.of(upper, unit.repeat_interleave(2))
        heights = (local.inside(upper) - local.inside(centres.flatten(0, 1)[:, None]))[..., 1].amax(1)
        room = (heights.view(-1, 2).mean(1) - LEAST_SEEN).clamp(min=1e-4)
        # A soft limit: all of a small drop, never more than the room.
        return (1 + (drop.clamp(min=0) / room) ** 4) ** -0.25


def _stack(a: tuple[int, ...], b: tuple[int, ...]) -> Int[Tensor, "2 n"]:
    """Two index lists as rows; the shorter one repeats its last point."""
    n = max(len(a), len(b))
    return torch.tensor([ids + ids[-1:] * (n - len(ids)) for ids in (a, b)])


def pin_eyeballs(
    warped: Float[Tensor, "B 3 H W"],
    source: Float[Tensor, "B 3 H W"],
    landmarks: Float[Tensor, "B K 2"],
    moved: Float[Tensor, "B K 2"],
    eyes: EyeIndices,
    unit_px: Float[Tensor, " B"],
    patch: tuple[int, int],
) -> Float[Tensor, "B 3 H W"]:
    """Redraw the eyeballs of warped images.

    Args:
        warped: images after the warp.
        source: images before it.
        landmarks: points before, (x, y) in pixels of these images.
        moved: points after.
        eyes: which points are lids and irises.
        unit_px: pixels of one eye-centre distance in each image.
        patch: height and width of the region to work on around an eye, in pixels.

    Returns:
        The warped images with eyeballs in place.
    """
    batch, _, height, width = warped.shape
    rows, columns = _patch_indices(landmarks[:, eyes.upper].flatten(0, 1), patch, height, width)
    pixels = torch.stack(torch.broadcast_tensors(columns[:, None, :], rows[:, :, None]), 3) + 0.5
    coordinates, blend, weight = _eyeballs(pixels, landmarks, moved, eyes, unit_px.repeat_interleave(2))

    # Each image's two patches, and in them the pixel itself and the two rotated samples, are fetched at once.
    where = coordinates.view(batch, -1, pixels.shape[2], 2) / pixels.new_tensor([width, height]) * 2 - 1
    sampled = F.grid_sample(source, where, mode="bicubic", padding_mode="border", align_corners=False)
    sampled = sampled.permute(0, 2, 3, 1).reshape(*coordinates.shape[:-1], 3)  # [2B, 3 h, w, 3]
    stay, left, right = sampled.chunk(3, 1)
    sides, shadow, parted = blend.unbind(0)
    colours = torch.lerp(stay, torch.lerp(left, right, sides) * shadow, parted)

    return _patched(warped, colours, weight, rows, columns)


def turn_eyeballs(
    images: Float[Tensor, "B 3 H W"],
    landmarks: Float[Tensor, "B K 2"],
    shifts: Float[Tensor, "B 2 2"],
    eyes: EyeIndices,
    unit_px: Float[Tensor, " B"],
    patch: tuple[int, int],
) -> Float[Tensor, "B 3 H W"]:
    """Move irises between lids that stay.

    Args:
        images: as recorded.
        landmarks: points (x, y) in pixels.
        shifts: of the right and the left iris, (x, y) in pixels.
        eyes: which points are lids and irises; it must have irises.
        unit_px: see :func:`pin_eyeballs`.
        patch: see :func:`pin_eyeballs`.
    """
    assert eyes.iris is not None  # the caller's
    batch, _, height, width = images.shape
    upper, lower = (landmarks[:, ids].flatten(0, 1) for ids in (eyes.upper, eyes.lower))
    rows, columns = _patch_indices(upper, patch, height, width)
    pixels = torch.stack(torch.broadcast_tensors(columns[:, None, :], rows[:, :, None]), 3) + 0.5
    local = _EyeAxes.of(upper, unit_px.repeat_interleave(2))
    place = local.inside(pixels.flatten(1, 2))
    upper = _sorted(local.inside(upper))
    lower = _sorted(local.inside(lower))
    iris = local.inside(landmarks[:, eyes.iris].flatten(0, 1))
    shift = shifts.flatten(0, 1)[:, None] @ local.inverse

    along, up = place[..., 0].contiguous(), place[..., 1]
    first, last = upper[:, :1, 0], upper[:, -1:, 0]
    middle = iris[..., 0] + shift[..., 0]
    before = (along - first) / (middle - IRIS_REACH - first).clamp_min(LEAST_WHITE)
    behind = (last - along) / (last - middle - IRIS_REACH).clamp_min(LEAST_WHITE)
    share = torch.minimum(before, behind).clamp(0.0, 1.0)
    high, low = _curve(along, upper), _curve(along, lower)
    column = along - share * shift[..., 0]
    # What lies in a lid's shadow is drawn from such a shadow, and no skin from beyond the lids.
    top = _curve(column, upper) - (high - up).clamp_max(LASH_SHADE)
    bottom = _curve(column, lower) + (up - low).clamp_max(LOWER_SHADE)
    row = torch.maximum(torch.minimum(up - share * shift[..., 1], top), bottom)
    x, y = local.outside(torch.stack([column, row], 2)).view(batch, -1, pixels.shape[2], 2).unbind(3)
    weight = _between_lids(up, high, low, 0.8 / unit_px.repeat_interleave(2)[:, None]) * _ramp(high - low, 0.02, 0.06)
    weight = weight.view(*pixels.shape[:3], 1)

    where = torch.stack([2 * x / width - 1, 2 * y / height - 1], 3)  # no numbers from the host: CUDA graphs capture it
    drawn = F.grid_sample(images, where, mode="bicubic", padding_mode="border", align_corners=False)
    return _patched(images, drawn.permute(0, 2, 3, 1).reshape(*pixels.shape[:3], 3), weight, rows, columns)


class _EyeAxes(NamedTuple):
    """Coordinates of E eyes: along the line between their corners and up, in eye-centre distances."""

    origin: Float[Tensor, "E 1 2"]
    axes: Float[Tensor, "E 2 2"]
    inverse: Float[Tensor, "E 2 2"]

    @classmethod
    def of(cls, upper: Float[Tensor, "E n 2"], unit_px: Float[Tensor, " E"]) -> "_EyeAxes":
        """From the upper lids in pixels."""
        along = F.normalize(upper[:, -1] - upper[:, 0], dim=1)
        up = torch.stack([along[:, 1], -along[:, 0]], 1)
        axes = torch.stack([along, up], 1) * unit_px[:, None, None]
        return cls(upper[:, :1], axes, axes.transpose(1, 2) / unit_px[:, None, None].square())

    def inside(self, pixels: Float[Tensor, "E n 2"]) -> Float[Tensor, "E n 2"]:
        """Of points in pixels."""
        return (pixels - self.origin) @ self.inverse

    def outside(self, places: Float[Tensor, "E n 2"]) -> Float[Tensor, "E n 2"]:
        """Inverse of :meth:`inside`."""
        return places @ self.axes + self.origin


def _patched(
    images: Float[Tensor, "B 3 H W"],
    drawn: Float[Tensor, "E h w 3"],
    weight: Float[Tensor, "E h w 1"],
    rows: Int[Tensor, "E h"],
    columns: Int[Tensor, "E w"],
) -> Float[Tensor, "B 3 H W"]:
    """Images with the patches of both their eyes blended in."""
    out = images.permute(0, 2, 3, 1).contiguous()
    image = torch.arange(len(images), device=images.device)[:, None, None]
    for eye in (0, 1):
        place = (image, rows[eye::2, :, None], columns[eye::2, None, :])
        out[place] = torch.lerp(out[place], drawn[eye::2], weight[eye::2])
    return out.permute(0, 3, 1, 2)


def _between_lids(up: Tensor, high: Tensor, low: Tensor, soft: Tensor) -> Tensor:
    """1 between the lids' inner edges, 0 on the lids."""
    return _ramp(high - EDGE - up, -soft, soft) * _ramp(up - low - EDGE, -soft, soft)


def _patch_indices(
    lid: Float[Tensor, "E n 2"], patch: tuple[int, int], height: int, width: int
) -> tuple[Int[Tensor, "E h"], Int[Tensor, "E w"]]:
    """Rows and columns of a patch around the lid's ends, shifted to lie in the image."""
    h, w = min(patch[0], height), min(patch[1], width)
    centre = (lid[:, 0] + lid[:, -1]) / 2
    top = (centre[:, 1] - h / 2).round().long().clamp(0, height - h)
    left = (centre[:, 0] - w / 2).round().long().clamp(0, width - w)
    return (top[:, None] + torch.arange(h, device=lid.device), left[:, None] + torch.arange(w, device=lid.device))


def _eyeballs(
    pixels: Float[Tensor, "E h w 2"],
    landmarks: Float[Tensor, "B K 2"],
    moved: Float[Tensor, "B K 2"],
    eyes: EyeIndices,
    unit_px: Float[Tensor, " E"],
) -> tuple[Float[Tensor, "E h3 w 2"], Float[Tensor, "3 E h w 1"], Float[Tensor, "E h w 1"]]:
    """Sample positions, blending weights, and the share of each pixel that the eyeball covers, for the E = 2 B eyes."""
    lids = [landmarks[:, ids].flatten(0, 1) for ids in (eyes.upper, eyes.lower)]
    new_lids = [moved[:, ids].flatten(0, 1) for ids in (eyes.upper, eyes.lower)]
    iris = eyes.centres(landmarks).flatten(0, 1)[:, None]
    local = _EyeAxes.of(lids[0], unit_px)
    place, pivot = local.inside(pixels.flatten(1, 2)), local.inside(iris)
    old, new = ([_sorted(local.inside(lid)) for lid in pair] for pair in (lids, new_lids))
    along_eye, height = place[..., 0].contiguous(), place[..., 1]
    upper, lower = (_curve(along_eye, lid) for lid in old)
    new_upper, new_lower = (_curve(along_eye, lid) for lid in new)

    weight = _between_lids(height, new_upper, new_lower, 0.8 / unit_px[:, None])
    weight = weight * _ramp(new_upper - new_lower, 0.03, 0.08) * _ramp(upper - lower, 0.02, 0.06)
    parted = _ramp(height - upper, -2 * LASH_SHADE, -LASH_SHADE) * _ramp(new_upper - upper, 0.0, 0.012)
    sides = _ramp(along_eye - pivot[..., 0], -SIDES_BLEND, SIDES_BLEND)
    shadow = 1 - SHADE * _ramp(height - new_upper, -SHADE_DEPTH, 0.0)
    turned = _turned(place, pivot, *old)
    coordinates = torch.cat([pixels, *(local.outside(t).view_as(pixels) for t in turned)], 1)
    shape = (*pixels.shape[:3], 1)
    return coordinates, torch.stack([sides, shadow, parted]).view(3, *shape), weight.view(shape)


def _turned(
    place: Float[Tensor, "E P 2"],
    pivot: Float[Tensor, "E 1 2"],
    upper: Float[Tensor, "E n 2"],
    lower: Float[Tensor, "E m 2"],
) -> tuple[Float[Tensor, "E P 2"], Float[Tensor, "E P 2"]]:
    """Places at the same distance from the iris's centre, but between the old lids and clear of their shadows.

    One on the left of the centre, one on its right.
    """
    count = place.shape[0]
    place, pivot, upper, lower = (t.repeat(2, 1, 1) for t in (place, pivot, upper, lower))
    side = place.new_ones(2 * count, 1)
    side[:count] = -1
    around = place - pivot
    distance2 = around.square().sum(2)
    column = place[..., 0].contiguous()
    row = around[..., 1]
    reach = around[..., 0]
    # Each turn changes the column and with it the lids' heights: the first turn is a guess, the others settle it.
    for _ in range(3):
        low = _curve(column, lower) + LOWER_SHADE - pivot[..., 1]
        high = _curve(column, upper) - LASH_SHADE - pivot[..., 1]
        row = torch.minimum(torch.maximum(row, low), high)
        reach = side * (distance2 - row.square()).clamp(min=0).sqrt()
        column = pivot[..., 0] + reach
    both = torch.stack([reach, row], 2) + pivot
    return both[:count], both[count:]


def _sorted(lid: Float[Tensor, "E n 2"]) -> Float[Tensor, "E n 2"]:
    """The lid's points in order along the eye."""
    return lid.gather(1, lid[..., :1].argsort(1).expand_as(lid))


def _curve(t: Float[Tensor, "E P"], lid: Float[Tensor, "E n 2"]) -> Float[Tensor, "E P"]:
    """Height of a lid's edge at positions along the eye, linear between its landmarks, constant beyond them."""
    right = torch.searchsorted(lid[..., 0].contiguous(), t).clamp(1, lid.shape[1] - 1)[..., None].expand(-1, -1, 2)
    a, b = lid.gather(1, right - 1), lid.gather(1, right)
    share = ((t - a[..., 0]) / (b[..., 0] - a[..., 0]).clamp(min=1e-6)).clamp(0, 1)
    return torch.lerp(a[..., 1], b[..., 1], share)


def _ramp(x: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """Smooth step from 0 at ``low`` to 1 at ``high``."""
    u = ((x - low) / (high - low)).clamp(0, 1)
    return u * u * (3 - 2 * u)


def openness(eyes: Float[Tensor, "B 2 n 2"]) -> Float[Tensor, " B"]:
    """Area of the eye openings over the square of their spans, mean of both eyes."""
    after = eyes.roll(-1, 2)
    area = (eyes[..., 0] * after[..., 1] - eyes[..., 1] * after[..., 0]).sum(2).abs() / 2
    span2 = (eyes - eyes[:, :, :1]).square().sum(3).amax(2)
    return (area / span2.clamp(min=1e-12)).mean(1)


def mesh_box(
    mesh: Float[Tensor, "B V 2"], unit_px: Float[Tensor, " B"], height: int, width: int
) -> tuple[Box | None, tuple[int, int]]:
    """The box of all meshes of the batch within the image (None if it has no mesh), and the size of an eye patch."""
    corners = torch.cat([mesh.amin((0, 1)).floor(), mesh.amax((0, 1)).ceil(), unit_px.max()[None]]).tolist()
    left, top, right, bottom = (int(corner) for corner in corners[:4])
    box = Box(top, left, bottom, right).grown(2).clipped(width, height)
    patch = (int(2 * PATCH_HALF[0] * corners[4]) + 2, int(2 * PATCH_HALF[1] * corners[4]) + 2)
    return box if box.width > 1 and box.height > 1 else None, patch
