"""Boxes of lips, eyes and face in each training frame.

Convention: int32 rows (top, left, bottom, right) as :class:`emotalking.ops.box.Box`, on the host.
"""

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from emotalking.ops.box import Box
from emotalking.train.data import TrainingData

LIP_MARGIN = 8
"""Pixels around the lip box that the image losses of mouth and lips see."""
EYE_MARGIN = 0.4
"""Share of an eye's width around the lids that moves with them."""
FACE_MARGIN = 0.12
"""Share of the face's width and height by which its box is larger than its landmarks, on each side."""


def lip_boxes(data: TrainingData, *, margin: int = 0) -> Int32[Tensor, "F 4"]:
    """The lip box of each frame with ``margin`` pixels around it, inside the frame where there is a margin."""
    boxes = torch.from_numpy(data.lips)
    if margin:
        boxes = _clipped(boxes + torch.tensor([-margin, -margin, margin, margin]), data.size)
    return boxes.int()


def lip_window(data: TrainingData, frame: int) -> Box:
    """The lip box of one frame with :data:`LIP_MARGIN`."""
    return Box(*data.lips[frame].tolist()).grown(LIP_MARGIN).clipped(*data.size)


def eye_boxes(data: TrainingData) -> Int32[Tensor, "F 4"]:
    """The box around both eyes of each frame, with what lids move; empty where no face was found."""
    eyes = torch.stack([data.points[:, data.layout.eye_loop(side)] for side in ("right", "left")], 1)
    width = (eyes.amax(2) - eyes.amin(2))[..., 0].mean(1)
    low = eyes.amin((1, 2)) - EYE_MARGIN * width[:, None]
    high = eyes.amax((1, 2)) + EYE_MARGIN * width[:, None]
    edge = eyes.new_tensor(data.size)
    low, high = low.clamp_min(0).minimum(edge), high.clamp_min(0).minimum(edge)
    boxes = torch.cat([low.flip(1), high.flip(1)], 1)
    return boxes.nan_to_num(0.0).round().int().cpu()


def face_boxes(points: Float[Tensor, "F K 2"], size: tuple[int, int]) -> Int32[Tensor, "F 4"]:
    """The box of each frame's landmarks, grown by :data:`FACE_MARGIN`, inside the frame of ``size`` (width, height).

    The whole frame where a landmark is not known.
    """
    low, high = points.amin(1).nan_to_num(0.0), points.amax(1).nan_to_num(float(max(size)))
    grow = FACE_MARGIN * (high - low)
    corner = points.new_tensor([size[0] - 2, size[1] - 2])
    low = torch.minimum((low - grow).floor().clamp_min(0), corner)
    high = torch.maximum(torch.minimum((high + grow).ceil(), corner + 2), low + 2)
    return torch.cat([low.flip(1), high.flip(1)], 1).int().cpu()


def equal_sized(boxes: Int32[Tensor, "F 4"], size: tuple[int, int]) -> Int32[Tensor, "F 4"]:
    """Boxes grown to the size of the largest, inside the frame of ``size`` (width, height).

    So all of a clip's steps do the same operations, as CUDA graphs need it. Boxes of the whole frame count for none.
    """
    width, height = size
    boxes = _clipped(boxes, size)
    partial = boxes[(boxes != boxes.new_tensor([0, 0, height, width])).any(1)]
    if len(partial) == 0:
        partial = boxes
    largest = (partial[:, 2:] - partial[:, :2]).amax(0)
    centred = (boxes[:, :2] + boxes[:, 2:] - largest).div(2, rounding_mode="floor").clamp_min(0)
    corners = torch.minimum(centred, largest.new_tensor([height, width]) - largest)
    return torch.cat([corners, corners + largest], 1)


def size_of(boxes: Int32[Tensor, "F 4"]) -> tuple[int, int]:
    """Rows and columns of boxes that are :func:`equal_sized`."""
    width, height = Box(*boxes[0].tolist()).size
    return height, width


def as_slices(box: Int32[Tensor, "4"]) -> tuple[slice, slice, slice]:
    """A box as an index into [B, H, W, ...]."""
    return slice(None), *Box(*box.tolist()).index


def _clipped(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    width, height = size
    return boxes.clamp_min(0).minimum(boxes.new_tensor([height, width, height, width]))
