"""FFHQ alignment of a face: crop it from a frame and paste it back (Karras et al. 2019, arXiv 1812.04948, appendix A).

Networks trained on FFHQ expect the eyes, the mouth and the tilt of the head in fixed places. The crop follows from
68 landmarks; a similarity maps it to the frame, so pasting back is exact but for resampling.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

BORDER = 0.1
"""Border that the published recipe keeps around the crop, in sides."""

MARGIN = 0.3
"""Least padding where the image ends before the crop, in sides."""

BLUR = 0.02
"""Standard deviation of the blur of padded parts, in sides."""

TOUCH = 4
"""Distance between crop and image edge in pixels below which the crop is padded."""

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class FaceAlignment:
    """One oriented square per frame: the region of its aligned crop."""

    centres: Float[Tensor, "B 2"]
    """Pixels (x, y)."""
    axes: Float[Tensor, "B 2"]
    """Vector from the centre to the middle of the square's right side, pixels."""

    @classmethod
    def around(cls, ibug68: Float[Tensor, "B 68 2"]) -> "FaceAlignment":
        """Alignment of these faces by the published rule.

        Args:
            ibug68: landmarks (x, y), pixels, with pixel centres at .5.
        """
        eye_right, eye_left = ibug68[:, 36:42].mean(1), ibug68[:, 42:48].mean(1)
        eyes, across = (eye_right + eye_left) / 2, eye_left - eye_right
        down = (ibug68[:, 48] + ibug68[:, 54]) / 2 - eyes
        axes = across - _turned(down)
        length = torch.maximum(across.norm(dim=1) * 2.0, down.norm(dim=1) * 1.8)
        return cls(eyes + down * 0.1, F.normalize(axes) * length[:, None])

    @property
    def sides(self) -> Float[Tensor, " B"]:
        """Side lengths of the squares, pixels of the frame."""
        return self.axes.norm(dim=1) * 2

    def pick(self, rows: list[int]) -> "FaceAlignment":
        """Select rows."""
        return FaceAlignment(self.centres[rows], self.axes[rows])

    def to_frame(self, places: Float[Tensor, "B *n 2"]) -> Float[Tensor, "B *n 2"]:
        """Map crop coordinates ((-1, -1) top left to (1, 1) bottom right) to pixels of the frame."""
        centre, right, down = self._expanded(places)
        return centre + places[..., :1] * right + places[..., 1:] * down

    def from_frame(self, points: Float[Tensor, "B *n 2"]) -> Float[Tensor, "B *n 2"]:
        """Inverse of :meth:`to_frame`."""
        centre, right, down = self._expanded(points)
        away, length2 = points - centre, right.square().sum(-1)
        return torch.stack([(away * right).sum(-1) / length2, (away * down).sum(-1) / length2], -1)

    def _expanded(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shape = (len(self.axes), *[1] * (like.dim() - 2), 2)
        return self.centres.view(shape), self.axes.view(shape), _turned(self.axes).view(shape)


def _turned(vectors: Float[Tensor, "B 2"]) -> Float[Tensor, "B 2"]:
    """Rotate by a quarter turn, from right to down."""
    return torch.stack([-vectors[:, 1], vectors[:, 0]], 1)


def in_groups(keys: Sequence[Key]) -> Iterator[tuple[Key, list[int]]]:
    """Group rows by key, so that rows of a group are processed together and no row depends on its neighbours."""
    for key in dict.fromkeys(keys):
        yield key, [row for row, other in enumerate(keys) if other == key]


def aligned_crops(images: Float[Tensor, "B H W 3"], alignment: FaceAlignment, size: int) -> Float[Tensor, "B S S 3"]:
    """Crop the aligned faces, S = ``size`` pixels a side; differentiable in the images.

    Where a crop reaches beyond its image, the image is mirrored and fades into its blur and its median colour, as
    in FFHQ.

    Deviation: blur and median are taken in the crop, the recipe takes them in a somewhat larger one; and the recipe
    samples bilinearly at four times the size, then shrinks. Reason: one bicubic resampling, on the GPU.

    Args:
        images: RGB in [0, 1].
        alignment: one square per image.
        size: pixels.
    """
    # Squares larger than ``size`` are supersampled and averaged, or fine lines would flicker.
    finer = [max(1, round(side / size + 0.49)) for side in alignment.sides.tolist()]
    out = images.new_empty(len(images), size, size, 3)
    for factor, rows in in_groups(finer):
        out = out.index_copy(0, _index(rows, images), _cut(images[rows], alignment.pick(rows), size, factor))
    invented = _invented(alignment, images.shape[1], images.shape[2], size)
    if not (invented > -1 / 3).any():
        return out
    smooth = torch.lerp(out, _blurred(out, BLUR * size), (3 * invented + 1).clamp(0, 1)[..., None])
    middle = smooth.flatten(1, 2).detach().median(1).values
    return torch.lerp(smooth, middle[:, None, None].expand_as(smooth), invented.clamp(0, 1)[..., None])


def paste_back(
    alignment: FaceAlignment, crops: Float[Tensor, "B S S 3"], images: Float[Tensor, "B H W 3"]
) -> tuple[Float[Tensor, "B H W 3"], Bool[Tensor, "B H W"]]:
    """Inverse of :func:`aligned_crops`: the frames with their aligned squares replaced; differentiable in both.

    Args:
        alignment: as given to :func:`aligned_crops`.
        crops: new content, RGB.
        images: the frames.

    Returns:
        The frames, and a mask of the replaced pixels.
    """
    height, width = images.shape[1:3]
    out, inside = images, torch.zeros(images.shape[:3], dtype=torch.bool, device=images.device)
    # The content is averaged where it is finer than the frame, by powers of two (sizes of crops are such).
    coarser = [_power_of_two(crops.shape[1] / side) for side in alignment.sides.tolist()]
    grid = _pixels(height, width, images).expand(len(images), -1, -1, -1)
    for factor, rows in in_groups(coarser):
        places = alignment.pick(rows).from_frame(grid[rows])
        content = F.avg_pool2d(crops[rows].permute(0, 3, 1, 2), factor)
        new = F.grid_sample(content, places, mode="bicubic", padding_mode="border", align_corners=False)
        here = (places.abs() <= 1).all(-1)
        index = _index(rows, images)
        inside = inside.index_copy(0, index, here)
        out = out.index_copy(0, index, torch.where(here[..., None], new.permute(0, 2, 3, 1), images[rows]))
    return out, inside


def _power_of_two(ratio: float) -> int:
    """The largest power of two that is no larger than the ratio, at least 1."""
    return 1 << (max(int(ratio), 1).bit_length() - 1)


def _index(rows: list[int], like: Tensor) -> Tensor:
    return torch.tensor(rows, device=like.device)


def _pixels(height: int, width: int, like: Tensor) -> Float[Tensor, "1 H W 2"]:
    """Centres (x, y) of all pixels."""
    rows = torch.arange(height, device=like.device, dtype=like.dtype) + 0.5
    columns = torch.arange(width, device=like.device, dtype=like.dtype) + 0.5
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], -1)[None]


def _cut(images: Tensor, alignment: FaceAlignment, size: int, factor: int) -> Float[Tensor, "b S S 3"]:
    """Sample the crops at ``factor`` times the size and average them down."""
    height, width = images.shape[1:3]
    fine = size * factor
    places = (_pixels(fine, fine, images) / fine * 2 - 1).expand(len(images), -1, -1, -1)
    where = alignment.to_frame(places) / images.new_tensor([width, height]) * 2 - 1
    source = images.permute(0, 3, 1, 2)
    new = F.grid_sample(source, where, mode="bicubic", padding_mode="reflection", align_corners=False)
    return F.avg_pool2d(new, factor).permute(0, 2, 3, 1)


def _invented(alignment: FaceAlignment, height: int, width: int, size: int) -> Float[Tensor, "B S S"]:
    """Distance of each crop pixel beyond the image: 0 at the image's edge, 1 at the end of the recipe's padding, -1/3
    where nothing changes."""
    like = alignment.centres
    corners = alignment.to_frame(like.new_tensor([[-1, -1], [1, -1], [-1, 1], [1, 1]]).expand(len(like), -1, -1))
    places = (_pixels(size, size, like) / size * 2 - 1).expand(len(like), -1, -1, -1)
    points = alignment.to_frame(places)
    side = alignment.sides
    border = (side * BORDER).round().clamp_min(3)
    most, beyond = torch.full(points.shape[:3], -1.0, device=like.device, dtype=like.dtype), []
    for axis, length in ((0, width), (1, height)):
        for reach, along in (
            (-corners[:, :, axis].amin(1), -points[..., axis]),
            (corners[:, :, axis].amax(1) - length, points[..., axis] - length),
        ):
            padding = torch.maximum(reach + border, (side * MARGIN).round())
            edge = (reach + border).clamp_max(0)
            most = torch.maximum(most, (along - edge[:, None, None]) / padding[:, None, None])
            beyond.append(reach)
    touched = torch.stack(beyond).amax(0) > -TOUCH
    return torch.where(touched[:, None, None], most, -1.0)


def _blurred(images: Float[Tensor, "B S S 3"], sigma: float) -> Float[Tensor, "B S S 3"]:
    """Gaussian blur of standard deviation ``sigma`` pixels; borders are replicated."""
    reach = max(1, round(3 * sigma))
    steps = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    taps = torch.softmax(-steps.square() / (2 * sigma**2), 0)
    planes = images.permute(0, 3, 1, 2).flatten(0, 1)[:, None]
    planes = F.conv2d(F.pad(planes, (reach, reach, 0, 0), mode="replicate"), taps.view(1, 1, 1, -1))
    planes = F.conv2d(F.pad(planes, (0, 0, reach, reach), mode="replicate"), taps.view(1, 1, -1, 1))
    return planes.view(len(images), 3, *images.shape[1:3]).permute(0, 2, 3, 1)
