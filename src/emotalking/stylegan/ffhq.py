"""FFHQ's square around a face, cut out of a frame and put back (Karras et al. 2019, arXiv 1812.04948, appendix A).

Networks trained on FFHQ expect the eyes, the mouth and the tilt of the head in fixed places. The square follows from
68 landmarks; it is a turn, a scale and a shift away from the frame, so the way back is exact but for resampling.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

BORDER = 0.1
"""The published recipe keeps so much of the square's side around it ..."""

MARGIN = 0.3
"""... and invents at least so much beyond a side where the image ends too early."""

BLUR = 0.02
"""Standard deviation of the blur of invented parts, in sides."""

TOUCH = 4
"""Pixels between square and image's edge below which anything is invented at all."""

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class AlignedSquares:
    """One oriented square a frame."""

    centres: Float[Tensor, "B 2"]
    """Pixels (x, y)."""
    axes: Float[Tensor, "B 2"]
    """From the centre to the middle of the square's right side, pixels."""

    @classmethod
    def around(cls, ibug68: Float[Tensor, "B 68 2"]) -> "AlignedSquares":
        """The published squares of these faces.

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
        """Sides of the squares, pixels of the frame."""
        return self.axes.norm(dim=1) * 2

    def pick(self, rows: list[int]) -> "AlignedSquares":
        """Some of the squares."""
        return AlignedSquares(self.centres[rows], self.axes[rows])

    def to_frame(self, places: Float[Tensor, "B *n 2"]) -> Float[Tensor, "B *n 2"]:
        """Places in the square ((-1, -1) top left to (1, 1) bottom right) as pixels of the frame."""
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
    """A quarter turn, from right to down."""
    return torch.stack([-vectors[:, 1], vectors[:, 0]], 1)


def in_groups(keys: Sequence[Key]) -> Iterator[tuple[Key, list[int]]]:
    """Rows that share a key, so that they are worked on together and no row depends on its neighbours."""
    for key in dict.fromkeys(keys):
        yield key, [row for row, other in enumerate(keys) if other == key]


def aligned_crops(images: Float[Tensor, "B H W 3"], squares: AlignedSquares, size: int) -> Float[Tensor, "B S S 3"]:
    """Cut the squares out, S = ``size`` pixels a side; differentiable in the images.

    Where a square reaches beyond its image, the image is mirrored and fades into its blur and its median colour, as
    in FFHQ.

    Deviation: blur and median are taken in the square, the recipe takes them in a cut somewhat larger; and the recipe
    samples bilinearly at four times the size, then shrinks. Reason: one bicubic resampling, on the graphics card.

    Args:
        images: RGB in [0, 1].
        squares: one an image.
        size: pixels.
    """
    # Squares larger than asked for are sampled more finely and averaged, or fine lines would flicker.
    finer = [max(1, round(side / size + 0.49)) for side in squares.sides.tolist()]
    out = images.new_empty(len(images), size, size, 3)
    for factor, rows in in_groups(finer):
        out = out.index_copy(0, _index(rows, images), _cut(images[rows], squares.pick(rows), size, factor))
    invented = _invented(squares, images.shape[1], images.shape[2], size)
    if not (invented > -1 / 3).any():
        return out
    smooth = torch.lerp(out, _blurred(out, BLUR * size), (3 * invented + 1).clamp(0, 1)[..., None])
    middle = smooth.flatten(1, 2).detach().median(1).values
    return torch.lerp(smooth, middle[:, None, None].expand_as(smooth), invented.clamp(0, 1)[..., None])


def paste_back(
    squares: AlignedSquares, cuts: Float[Tensor, "B S S 3"], images: Float[Tensor, "B H W 3"]
) -> tuple[Float[Tensor, "B H W 3"], Bool[Tensor, "B H W"]]:
    """Inverse of :func:`aligned_crops`: the frames with their squares replaced; differentiable in both.

    Args:
        squares: as given to :func:`aligned_crops`.
        cuts: the squares' new content, RGB.
        images: the frames.

    Returns:
        The frames, and where they were replaced.
    """
    height, width = images.shape[1:3]
    out, inside = images, torch.zeros(images.shape[:3], dtype=torch.bool, device=images.device)
    # The content is averaged where it is finer than the frame, by powers of two (sizes of cuts are such).
    coarser = [_power_of_two(cuts.shape[1] / side) for side in squares.sides.tolist()]
    grid = _pixels(height, width, images).expand(len(images), -1, -1, -1)
    for factor, rows in in_groups(coarser):
        places = squares.pick(rows).from_frame(grid[rows])
        content = F.avg_pool2d(cuts[rows].permute(0, 3, 1, 2), factor)
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


def _cut(images: Tensor, squares: AlignedSquares, size: int, factor: int) -> Float[Tensor, "b S S 3"]:
    """The squares at ``factor`` times the size, averaged down."""
    height, width = images.shape[1:3]
    fine = size * factor
    places = (_pixels(fine, fine, images) / fine * 2 - 1).expand(len(images), -1, -1, -1)
    where = squares.to_frame(places) / images.new_tensor([width, height]) * 2 - 1
    source = images.permute(0, 3, 1, 2)
    new = F.grid_sample(source, where, mode="bicubic", padding_mode="reflection", align_corners=False)
    return F.avg_pool2d(new, factor).permute(0, 2, 3, 1)


def _invented(squares: AlignedSquares, height: int, width: int, size: int) -> Float[Tensor, "B S S"]:
    """How far beyond the image a pixel of the square lies: 0 at the image's edge, 1 at the end of what the recipe
    invents, -1/3 where nothing is touched."""
    like = squares.centres
    corners = squares.to_frame(like.new_tensor([[-1, -1], [1, -1], [-1, 1], [1, 1]]).expand(len(like), -1, -1))
    places = (_pixels(size, size, like) / size * 2 - 1).expand(len(like), -1, -1, -1)
    points = squares.to_frame(places)
    side = squares.sides
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
    """Gaussian blur of standard deviation ``sigma`` pixels; the images go on with their edge."""
    reach = max(1, round(3 * sigma))
    steps = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    taps = torch.softmax(-steps.square() / (2 * sigma**2), 0)
    planes = images.permute(0, 3, 1, 2).flatten(0, 1)[:, None]
    planes = F.conv2d(F.pad(planes, (reach, reach, 0, 0), mode="replicate"), taps.view(1, 1, 1, -1))
    planes = F.conv2d(F.pad(planes, (0, 0, reach, reach), mode="replicate"), taps.view(1, 1, -1, 1))
    return planes.view(len(images), 3, *images.shape[1:3]).permute(0, 2, 3, 1)
