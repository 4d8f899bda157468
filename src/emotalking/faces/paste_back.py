"""Paste generated expressions into the recorded frames (paper, section S4.1; docs/paper.md 12.2)."""

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from emotalking.data.layouts import FaceLayout
from emotalking.emotion.generator import GeneratedFaces
from emotalking.faces.reader import SubjectReader
from emotalking.ops.box import Box
from emotalking.ops.composite import RIM, seamless_clone
from emotalking.stylegan.ffhq import FaceAlignment, aligned_crops, in_groups, paste_back
from emotalking.stylegan.lip_aligned import StyleEditor

MARGIN = (0.18, 0.30)
"""Room around the eyes with their brows, and around the lips, in distances of the eye centres."""

STEP = 8
"""Widths and heights of rectangles are multiples of this, so that many rectangles of a clip share a size."""


def face_rectangles(
    landmarks: Float[Tensor, "B K 2"], layout: FaceLayout, height: int, width: int
) -> Int64[Tensor, "B 2 4"]:
    """Rectangles of eyes and mouth that are cloned into the recorded frame.

    Assumption: one rectangle holds both eyes and brows. The paper says "rectangular regions around the eyes and mouth,
    which are expressive of emotion" and gives no margins.

    Args:
        landmarks: of the generated images, pixels.
        layout: their meaning.
        height: of the images, pixels.
        width: as above.

    Returns:
        Boxes (``ops.box``: top, left, bottom, right) of eyes and mouth; one pixel away from the images' edge at
        least, because the edge of a rectangle is kept. Width and height are multiples of 8 unless the image cuts
        them off; a rectangle outside the image is empty (zeros).
    """
    right, left = layout.eye_centres(landmarks)
    unit = (left - right).norm(dim=1)
    around_eyes = [*layout.eye_loop("right"), *layout.eye_loop("left"), *layout.right_brow, *layout.left_brow]
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


class PaperGenerator:
    """Emotion generator of the paper: from a recorded frame to a training target.

    Crop the FFHQ-aligned face, edit its expression, paste it back, clone eyes and mouth into the recorded frame, and
    detect landmarks, labels and normals in the new frame.
    """

    def __init__(self, editor: StyleEditor, reader: SubjectReader, layout: FaceLayout) -> None:
        """Generate with these.

        Args:
            editor: network that edits aligned crops.
            reader: detects landmarks, labels and normals in the result.
            layout: the subject's landmarks.

        Raises:
            ValueError: if the layout does not tell the 68 iBUG points apart.
        """
        if len(set(layout.ibug68)) < len(layout.ibug68):
            raise ValueError(f"layout {layout.name} does not name the 68 iBUG points that FFHQ's alignment needs")
        self._editor = editor
        self._reader = reader
        self._layout = layout

    @property
    def name(self) -> str:
        """Name of the editor."""
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
        coverage: Float[Tensor, "B H W"] | None = None,
    ) -> GeneratedFaces:
        """Edit a batch of frames; arguments as in ``EmotionGenerator``.

        Labels are parsed in the new image inside the rectangles only; outside, pixels and labels are the recorded ones.
        The rectangles lie within the head's outline, so that its coverage stays.
        A frame stays as recorded if no face is detected in its edited image, because it then has no rectangles.
        """
        landmarks = landmarks.to(images.dtype)
        points = landmarks[:, list(self._layout.ibug68)]
        alignment = FaceAlignment.around(points)
        crops = aligned_crops(images, alignment, self._editor.size)
        edited, _ = paste_back(alignment, self._editor(crops, alignment.from_frame(points), va).clamp(0, 1), images)
        found = self._reader.landmarks(edited)
        known = torch.isfinite(found).all(2).all(1)
        height, width = images.shape[1:3]
        boxes = face_rectangles(torch.where(known[:, None, None], found, landmarks), self._layout, height, width)
        new = poisson_blend(images, edited, boxes * known[:, None, None])
        new_points = self._reader.landmarks(new)
        kept = ~(known & torch.isfinite(new_points).all(2).all(1))
        new = torch.where(kept[:, None, None, None], images, new)
        new_points = torch.where(kept[:, None, None], landmarks, new_points)
        changed = _inside(boxes, height, width) & ~kept[:, None, None]
        new_labels = torch.where(changed, self._reader.labels(new, new_points), labels)
        new_normals = None
        if normals is not None:
            fresh = self._reader.normals(new, new_points, new_labels, viewmats)
            new_normals = torch.where(kept[:, None, None, None], normals, fresh)
        return GeneratedFaces(new, new_labels, new_points, new_normals, kept, coverage)
