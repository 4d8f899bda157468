"""The training frames of a subject as tensors on one device."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int32, Int64, UInt8
from torch import Tensor

from emotalking.audio.windows import audio_windows
from emotalking.data import Subject
from emotalking.data.frame import mouth_opening_of
from emotalking.data.labels import Label
from emotalking.data.layouts import FaceLayout
from emotalking.errors import InputError
from emotalking.models.compositor import Conditions, torso_over_plate
from emotalking.ops.box import Box
from emotalking.ops.normals import decode_normals
from emotalking.train.images import StoredFrames, load_images


@dataclass(frozen=True)
class RecordedConditions(Conditions):
    """Conditions of the F training frames, as recorded."""

    va: Float[Tensor, "F 2"]  # pyright: ignore[reportGeneralTypeIssues]  # Always known here.

    def at(self, frame: int | Int64[Tensor, " B"]) -> "RecordedConditions":
        """Of one frame, still batched, or of several."""
        pick = as_index(frame)
        gaze = None if self.gaze is None else self.gaze[pick]
        return RecordedConditions(self.viewmats[pick], self.audio[pick], self.aus[pick], self.va[pick], gaze=gaze)


@dataclass
class TrainingData:
    """Frames at rest as uint8; row 0..F-1 counts the *selected* frames, `indices` holds the subject's numbers."""

    indices: Int64[np.ndarray, "F"]
    """The subject's number of each row."""
    images: UInt8[Tensor, "F H W 3"] | StoredFrames
    """Training targets (``gt_imgs``), RGB."""
    labels: UInt8[Tensor, "F H W"]
    """Label maps (:class:`emotalking.data.labels.Label`); teeth are ``MOUTH``."""
    torso: UInt8[Tensor, "F H W 4"] | StoredFrames
    """Straight RGBA layers of torso and neck."""
    coverage: UInt8[Tensor, "F H W"] | StoredFrames
    """How much of each pixel head, hair and inside of the mouth cover, 255 for all (`images.head_coverage`)."""
    background: UInt8[Tensor, "H W 3"]
    """Background plate, RGB, without the person."""
    conditions: RecordedConditions
    """Cameras, audio windows, action units and valence/arousal of each row."""
    K: Float[Tensor, "3 3"]
    """Camera intrinsics in pixels."""
    lips: Int64[np.ndarray, "F 4"]
    """Squares around the lips in pixels (`ops.box`: top, left, bottom, right)."""
    mouth_opening: Float[np.ndarray, "F"]
    """Vertical extent of the inner lips in pixels."""
    blink: Float[np.ndarray, "F"]
    """AU45 / 2, in [0, 1]."""
    au25: Float[np.ndarray, "F"]
    """Lips part, clipped at its 95th percentile."""
    points: Float[Tensor, "F K 2"]
    """Landmarks in pixels."""
    shape: Float[Tensor, "K 3"] | None
    """Neutral 3-D landmarks in the head frame; None for folders of other tools."""
    layout: FaceLayout
    normals: UInt8[Tensor, "F H W 3"] | StoredFrames | None = None
    """Face normals in camera space as colours (docs/conventions.md), black where there is none; None: not loaded."""

    @classmethod
    def load(
        cls,
        subject: Subject,
        indices: Int64[np.ndarray, "F"],
        features: str,
        device: torch.device | str,
        *,
        normals: bool = False,
    ) -> "TrainingData":
        """Read the frames ``indices`` of ``subject`` onto ``device``.

        Args:
            features: name of the audio features.
            normals: read the normal maps too, if the subject has any.

        Raises:
            InputError: if the subject lacks something that training needs.
        """
        stored = load_images(subject, indices, device, normals=normals)
        track = subject.landmarks.without_guesses()
        mouth_opening = mouth_opening_of(track.ibug68)
        valence_arousal = subject.valence_arousal
        if valence_arousal is None:
            valence_arousal = np.zeros((subject.num_frames, 2), np.float32)
        sound = torch.from_numpy(subject.audio_features(features)).to(device)

        def pick(array: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array[indices], dtype=np.float32)).to(device)

        gaze = None if subject.gaze is None else pick(subject.gaze)
        conditions = RecordedConditions(
            pick(subject.viewmats), audio_windows(sound, indices), pick(subject.aus), pick(valence_arousal), gaze=gaze
        )
        everywhere = np.arange(subject.num_frames)
        tables = (
            ("audio features", sound, everywhere),
            ("action units", conditions.aus, indices),
            ("valence or arousal", conditions.va, indices),
            *(() if gaze is None else (("gaze", gaze, indices),)),
            ("AU25", torch.from_numpy(subject.au25), everywhere),
        )
        for name, table, frames in tables:
            gaps = ~torch.isfinite(table.flatten(1) if table.ndim > 1 else table[:, None]).all(1)
            if bool(gaps.any()):
                frame = int(frames[int(gaps.nonzero()[0])])
                raise InputError(f"{subject.files.root} has non-finite {name} in frame {frame}: prepare it again.")
        lips = [subject.lips_rect(int(index)) for index in indices]
        return cls(
            indices=np.asarray(indices, np.int64),
            images=stored.images,
            labels=stored.labels,
            torso=stored.torso,
            coverage=stored.coverage,
            background=torch.from_numpy(np.array(subject.background)).to(device),
            conditions=conditions,
            K=torch.from_numpy(np.asarray(subject.K, np.float32)).to(device),
            lips=np.array([[*box] for box in lips], np.int64),
            mouth_opening=mouth_opening[indices],
            blink=subject.blink[indices],
            au25=subject.au25[indices],
            points=pick(track.points),
            shape=None if track.shape is None else torch.from_numpy(np.float32(track.shape)).to(device),
            layout=track.layout,
            normals=stored.normals,
        )

    @property
    def count(self) -> int:
        """Number of rows, F."""
        return self.labels.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.labels.shape[2], self.labels.shape[1]

    @property
    def device(self) -> torch.device:
        """Device of the tensors."""
        return self.labels.device

    def image(self, frame: int | Int64[Tensor, "1"]) -> Float[Tensor, "1 H W 3"]:
        """The target frame in [0, 1]."""
        return self.images[as_index(frame)].float() / 255.0

    def normal_map(self, frames: int | Int64[Tensor, "B"]) -> Float[Tensor, "B H W 3"] | None:
        """Unit normals of the face in one or B frames, camera space, zero where unknown; None: there are none."""
        if self.normals is None:
            return None
        colours = self.normals[as_index(frames)]
        vectors = decode_normals(colours.float() / 255.0)
        return F.normalize(vectors, dim=-1) * (colours > 0).any(-1, keepdim=True)

    def mask(self, frame: int | Int64[Tensor, "1"], *classes: Label) -> Bool[Tensor, "1 H W"]:
        """True where frame ``frame`` shows one of ``classes``."""
        return class_mask(self.labels[as_index(frame)], *classes)

    def cut_out(
        self, frame: int | Int64[Tensor, "1"], image: Float[Tensor, "1 H W 3"]
    ) -> tuple[Float[Tensor, "1 H W 3"], Float[Tensor, "1 H W"]]:
        """Head and hair of a frame's ``image``, freed from what shines through their border (premultiplied); coverage.

        Deviation: TalkingGaussian cuts at the label map's edge. Reason: pixels there are mixtures, of which a hard cut
        teaches the head the colours of the background that it was recorded in, and a jagged, restless outline.
        """
        index = as_index(frame)
        return self.freed(frame, image, self.labels[index], self.coverage[index].float() / 255.0)

    def freed(
        self,
        frames: int | Int64[Tensor, "B"],
        images: Float[Tensor, "B H W 3"],
        labels: UInt8[Tensor, "B H W"],
        coverage: Float[Tensor, "B H W"],
        rows: slice = slice(None),
        columns: slice = slice(None),
    ) -> tuple[Float[Tensor, "B H W 3"], Float[Tensor, "B H W"]]:
        """:meth:`cut_out` of images that show something else before the background of some pixels of ``frames``."""
        covered = coverage * ~class_mask(labels, Label.MOUTH)
        most = covered[..., None].repeat(1, 1, 1, 3)  # once: torch is slow at three channels of one coverage
        through = (1.0 - most).mul_(self.behind(frames, rows, columns))
        return torch.minimum((images - through).clamp_min_(0.0), most), covered

    def pixels_of(self, label: Label) -> Int64[np.ndarray, "F"]:
        """Pixels of ``label`` in each frame."""
        return np.array([int((frame == int(label)).sum()) for frame in self.labels], np.int64)

    def without_mouth(
        self, frames: int | Int64[Tensor, "B"], rows: slice = slice(None), columns: slice = slice(None)
    ) -> tuple[Float[Tensor, "B h w 3"], Float[Tensor, "B h w"]]:
        """One or B target frames cut out where the mouth's inside shows: premultiplied colours, and coverage 0 or 1."""
        index = as_index(frames)
        outside = ~class_mask(self.labels[index, rows, columns], Label.MOUTH)
        image = self.images[index, rows, columns].float() / 255.0
        return image * outside[..., None], outside.float()

    def behind(
        self, frames: int | Int64[Tensor, "B"], rows: slice = slice(None), columns: slice = slice(None)
    ) -> Float[Tensor, "B h w 3"]:
        """The torso layers of one or B frames over the background plate; of all pixels, or some rows and columns."""
        plate = self.background[rows, columns].float()[None] / 255.0
        return torso_over_plate(self.torso[as_index(frames), rows, columns], plate)

    def extent(self) -> float:
        """Scene scale: 1.1 x the largest distance of a camera from the mean camera (docs/paper.md 1.1).

        Deviation: at least 0.1, because a person who holds still would otherwise stop all Gaussians from moving.
        """
        rotation, translation = self.conditions.viewmats[:, :3, :3], self.conditions.viewmats[:, :3, 3]
        centres = -(rotation.transpose(1, 2) @ translation[..., None]).squeeze(-1)
        return max(0.1, 1.1 * float((centres - centres.mean(0)).norm(dim=1).max()))


def as_index(frames: int | Int64[Tensor, "B"]) -> slice | Tensor:
    """An index that keeps the batch axis, of one frame or of those in a tensor; the latter waits for no device."""
    return slice(frames, frames + 1) if isinstance(frames, int) else frames


def random_index(count: int, generator: torch.Generator) -> int:
    """A random index into ``count`` things."""
    return int(torch.randint(count, (1,), generator=generator))


def class_mask(labels: UInt8[Tensor, "*batch H W"], *classes: Label) -> Bool[Tensor, "*batch H W"]:
    """True where ``labels`` is one of ``classes``."""
    mask = labels == int(classes[0])
    for label in classes[1:]:
        mask = mask | (labels == int(label))
    return mask


LIP_MARGIN = 8
"""Pixels around the lip box that the image losses of mouth and lips see."""
PART_MARGIN = 0.4
"""Share of an eye's width around the lids that moves with them; of the mouth's around the lips."""
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
    return boxes_around(data.points, [data.layout.eye_loop(side) for side in ("right", "left")], data.size)


def boxes_around(
    points: Float[Tensor, "F K 2"], loops: Sequence[Sequence[int]], size: tuple[int, int]
) -> Int32[Tensor, "F 4"]:
    """The box around some loops of landmarks with what they move, inside the frame of ``size`` (width, height).

    Empty where no face was found.
    """
    low, high = (torch.stack([f(points[:, list(loop)], 1) for loop in loops], 1) for f in (torch.amin, torch.amax))
    grow = PART_MARGIN * (high - low)[..., :1].mean(1)
    edge = points.new_tensor(size)
    low, high = (corner.clamp_min(0).minimum(edge) for corner in (low.amin(1) - grow, high.amax(1) + grow))
    return torch.cat([low.flip(1), high.flip(1)], 1).nan_to_num(0.0).round().int().cpu()


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
