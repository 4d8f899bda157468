"""The training frames of a subject as tensors on one device."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from emotalking.audio.windows import audio_windows
from emotalking.data import Subject
from emotalking.data.frame import mouth_opening_of
from emotalking.data.labels import Label
from emotalking.data.layouts import FaceLayout
from emotalking.errors import InputError
from emotalking.models.compositor import Conditions, torso_over_plate
from emotalking.ops.normals import decode_normals
from emotalking.train.frames import StoredFrames, load_images


@dataclass(frozen=True)
class RecordedConditions(Conditions):
    """Conditions of the F training frames, as recorded."""

    va: Float[Tensor, "F 2"]  # pyright: ignore[reportGeneralTypeIssues]  # Always known here.

    def at(self, frame: int | Int64[Tensor, "1"]) -> "RecordedConditions":
        """The one frame ``frame``, still batched."""
        pick = as_index(frame)
        return RecordedConditions(self.viewmats[pick], self.audio[pick], self.aus[pick], self.va[pick])


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

        conditions = RecordedConditions(
            pick(subject.viewmats), audio_windows(sound, indices), pick(subject.aus), pick(valence_arousal)
        )
        everywhere = np.arange(subject.num_frames)
        tables = (
            ("audio features", sound, everywhere),
            ("action units", conditions.aus, indices),
            ("valence or arousal", conditions.va, indices),
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

    def pixels_of(self, label: Label) -> Int64[np.ndarray, "F"]:
        """Pixels of ``label`` in each frame."""
        return np.array([int((frame == int(label)).sum()) for frame in self.labels], np.int64)

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


def class_mask(labels: UInt8[Tensor, "*batch H W"], *classes: Label) -> Bool[Tensor, "*batch H W"]:
    """True where ``labels`` is one of ``classes``."""
    mask = labels == int(classes[0])
    for label in classes[1:]:
        mask = mask | (labels == int(label))
    return mask
