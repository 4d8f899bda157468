"""Generated expressions back into the recorded frames (paper, section S4.1; docs/paper.md 12.2)."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from emotalking.data.layouts import FaceLayout
from emotalking.emotion.generator import GeneratedFaces
from emotalking.emotion.mesh_warp.template import eye_loop
from emotalking.ops.box import Box
from emotalking.ops.poisson import RIM, seamless_clone
from emotalking.stylegan.ffhq import AlignedSquares, aligned_crops, in_groups, paste_back

MARGIN = (0.18, 0.30)
"""Room around the eyes with their brows, and around the lips, in distances of the eye centres."""

STEP = 8
"""Widths and heights of rectangles are multiples of this, so that those of a clip are often alike."""


@runtime_checkable
class SquareEditor(Protocol):
    """Gives faces in FFHQ's squares another expression."""

    name: str
    size: int
    """Pixels a side of the squares."""

    def __call__(
        self, squares: Float[Tensor, "B S S 3"], ibug68: Float[Tensor, "B 68 2"], va: Float[Tensor, "B 2"]
    ) -> Float[Tensor, "B S S 3"]:
        """Edited faces.

        Args:
            squares: RGB in [0, 1].
            ibug68: landmarks in the squares, from (-1, -1) top left to (1, 1) bottom right.
            va: commanded valence and arousal in [-1, 1].
        """
        ...


@runtime_checkable
class FaceReader(Protocol):
    """Reads images of the subject anew: what labels, landmarks and normals an edited frame has."""

    def landmarks(self, images: Float[Tensor, "B H W 3"]) -> Float[Tensor, "B K 2"]:
        """Points of the subject's layout, pixels; NaN where no face was found."""
        ...

    def labels(self, images: Float[Tensor, "B H W 3"], landmarks: Float[Tensor, "B K 2"]) -> UInt8[Tensor, "B H W"]:
        """Parsing, :class:`emotalking.data.labels.Label`."""
        ...

    def normals(
        self,
        images: Float[Tensor, "B H W 3"],
        landmarks: Float[Tensor, "B K 2"],
        labels: UInt8[Tensor, "B H W"],
        viewmats: Float[Tensor, "B 4 4"],
    ) -> Float[Tensor, "B H W 3"]:
        """Unit normals in camera space, zero where unknown."""
        ...


def face_rectangles(
    landmarks: Float[Tensor, "B K 2"], layout: FaceLayout, height: int, width: int
) -> Int64[Tensor, "B 2 4"]:
    """Where eyes and mouth are handed over.

    Assumption: one rectangle holds both eyes and brows. The paper says "rectangular regions around the eyes and mouth,
    which are expressive of emotion" and gives no margins.

    Args:
        landmarks: of the generated images, pixels.
        layout: their meaning.
        height: of the images, pixels.
        width: as above.

    Returns:
        Boxes (``ops.box``: top, left, bottom, right) of eyes and mouth; one pixel away from the images' edge at
        least, because the edge of a rectangle is kept. Width and height are multiples of 8 unless the image is in the
        way; a rectangle that lies outside the image is empty (zeros).
    """
    right, left = layout.eye_centres(landmarks)
    unit = (left - right).norm(dim=1)
    around_eyes = [*eye_loop(layout, "right"), *eye_loop(layout, "left"), *layout.right_brow, *layout.left_brow]
    groups = (around_eyes, list(layout.lips_outer))
    limits = landmarks.new_tensor([width, height])
    out = []
    for indices, margin in zip(groups, MARGIN, strict=True):
        points = landmarks[:, indices]
        low, high = (points.amin(1) - margin * unit[:, None], points.amax(1) + margin * unit[:, None])
        size = ((high - low) / STEP).ceil() * STEP
        first = ((low + high - size) / 2).round().clamp_min(1)
        last = torch.minimum(((low + high - size) / 2).round() + size, limits - 1)
        large = (last - first > 2 * RIM).all(1, keepdim=True)
        box = torch.stack([first[:, 1], first[:, 0], last[:, 1], last[:, 0]], 1)
        out.append(torch.where(large, box, 0.0))
    return torch.stack(out, 1).long()


def poisson_blend(
    frames: Float[Tensor, "B H W 3"], edited: Float[Tensor, "B H W 3"], rectangles: Int64[Tensor, "B R 4"]
) -> Float[Tensor, "B H W 3"]:
    """Clone rectangles of the edited frames seamlessly into the recorded ones, one after the other.

    Args:
        frames: RGB in [0, 1].
        edited: as above.
        rectangles: boxes (top, left, bottom, right) in pixels; empty ones are left out.

    Returns:
        RGB in [0, 1]; pixels outside the rectangles are those of ``frames``. Differentiable in both.
    """
    out = frames.permute(0, 3, 1, 2)
    patches = edited.permute(0, 3, 1, 2)
    for boxes in rectangles.unbind(1):
        places_of = [Box(*box) for box in boxes.tolist()]
        new = out.clone()
        for size, rows in in_groups([box.size for box in places_of]):
            if size == (0, 0):
                continue
            places = [(row, slice(None), *places_of[row].index) for row in rows]
            targets, wanted = (torch.stack([planes[place] for place in places]) for planes in (out, patches))
            for place, result in zip(places, seamless_clone(targets, wanted).clamp(0, 1), strict=True):
                new[place] = result
        out = new
    return out.permute(0, 2, 3, 1)


def _inside(rectangles: Int64[Tensor, "B R 4"], height: int, width: int) -> Bool[Tensor, "B H W"]:
    """Pixels of any rectangle."""
    top, left, bottom, right = rectangles[:, :, None, None].unbind(-1)
    rows = torch.arange(height, device=rectangles.device)[:, None]
    columns = torch.arange(width, device=rectangles.device)
    return ((rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)).any(1)


class SquareGenerator:
    """The paper's way from a recorded frame to a training target, as an emotion generator.

    Square out of the frame, another expression in the square, square back, eyes and mouth cloned into the recorded
    frame, everything about the new frame read anew.
    """

    def __init__(self, editor: SquareEditor, reader: FaceReader, layout: FaceLayout) -> None:
        """Generate with these.

        Args:
            editor: the network.
            reader: what finds landmarks, labels and normals of the result.
            layout: the subject's landmarks.

        Raises:
            ValueError: if the layout does not tell the 68 iBUG points apart.
        """
        if len(set(layout.ibug68)) < len(layout.ibug68):
            raise ValueError(f"layout {layout.name} does not name the 68 iBUG points that FFHQ's square needs")
        self._editor, self._reader, self._layout = editor, reader, layout

    @property
    def name(self) -> str:
        """The editor's."""
        return self._editor.name

    @torch.no_grad()
    def __call__(
        self,
        images: Float[Tensor, "B H W 3"],
        landmarks: Float[Tensor, "B K 2"],
        labels: UInt8[Tensor, "B H W"],
        viewmats: Float[Tensor, "B 4 4"],
        va: Float[Tensor, "B 2"],
        normals: Float[Tensor, "B H W 3"] | None = None,
    ) -> GeneratedFaces:
        """Edit a batch of frames; see the protocol for the arguments.

        Labels are read anew inside the rectangles; beyond them the pixels are the recorded ones, and so are the labels.
        A frame in whose edited image no face is found stays as recorded: with nothing read there is no rectangle.
        """
        landmarks = landmarks.to(images.dtype)
        points = landmarks[:, list(self._layout.ibug68)]
        squares = AlignedSquares.around(points)
        cuts = aligned_crops(images, squares, self._editor.size)
        edited, _ = paste_back(squares, self._editor(cuts, squares.from_frame(points), va).clamp(0, 1), images)
        found = self._reader.landmarks(edited)
        known = torch.isfinite(found).all(2).all(1)
        height, width = images.shape[1:3]
        boxes = face_rectangles(torch.where(known[:, None, None], found, landmarks), self._layout, height, width)
        new = poisson_blend(images, edited, boxes * known[:, None, None])
        again = self._reader.landmarks(new)
        kept = ~(known & torch.isfinite(again).all(2).all(1))
        new = torch.where(kept[:, None, None, None], images, new)
        again = torch.where(kept[:, None, None], landmarks, again)
        changed = _inside(boxes, height, width) & ~kept[:, None, None]
        new_labels = torch.where(changed, self._reader.labels(new, again), labels)
        new_normals = None
        if normals is not None:
            fresh = self._reader.normals(new, again, new_labels, viewmats)
            new_normals = torch.where(kept[:, None, None, None], normals, fresh)
        return GeneratedFaces(new, new_labels, again, new_normals, kept)
