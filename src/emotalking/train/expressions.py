"""Recorded frames of a person's own expressions as targets of the emotion stage (``prepare --expressions``).

An addition to the paper, whose targets are generated. Such a frame is compared where it shows the face, in the main
clip's colours, under the valence and arousal that were read from it. Speech and action units are what the head shows
without an emotion, so that the expression is left for the emotion's offsets: the sound of the main clip's frame whose
lips are as far apart, and the main clip's usual units, only the blink being the frame's own.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from emotalking.data import Subject
from emotalking.data.frame import emotion_share, lip_gap
from emotalking.data.labels import Label
from emotalking.data.layouts import FaceLayout
from emotalking.errors import InputError
from emotalking.ops.normals import decode_normals
from emotalking.progress import track
from emotalking.train.config import TrainConfig
from emotalking.train.data import RecordedConditions, TrainingData, random_index
from emotalking.train.targets import Target

MOST_FRAMES = 1000
"""Frames of all clips together that are kept in memory (512 x 512: 1.3 GB), evenly spread over each."""
SAME_GAP = 0.0015
"""Lips that are as far apart, world units (2.4 % of the eyes' distance). Where no frame of the main clip has such a
gap, lips and chin are not compared: an open jaw would be learned as emotion, and lips would no longer close."""


@dataclass(frozen=True)
class ExpressionClip:
    """The F frames of a clip that may be drawn."""

    name: str
    indices: Int64[np.ndarray, "F"]
    """The clip's number of each."""
    images: UInt8[Tensor, "F H W 3"]
    """RGB in the main clip's colours."""
    labels: UInt8[Tensor, "F H W"]
    compared: Bool[Tensor, "F H W"]
    """Pixels of the face."""
    normals: UInt8[Tensor, "F H W 3"] | None
    points: Float[Tensor, "F K 2"]
    K: Float[Tensor, "3 3"]
    conditions: RecordedConditions

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.labels.shape[2], self.labels.shape[1]

    def target(self, row: int, *, normals: bool = False) -> Target:
        """Frame ``row``."""
        pick = slice(row, row + 1)
        surface = None
        if normals and self.normals is not None:
            colours = self.normals[pick]
            known = (colours > 0).any(-1, keepdim=True) & self.compared[pick, ..., None]
            surface = F.normalize(decode_normals(colours.float() / 255.0), dim=-1) * known
        return Target(
            self.images[pick].float() / 255.0, self.labels[pick], self.conditions.va[pick], surface, self.compared[pick]
        )


@dataclass(frozen=True)
class Expressions:
    """All clips of a subject; their frames are counted on from the main clip's."""

    clips: tuple[ExpressionClip, ...]

    @classmethod
    def load(cls, subject: Subject, data: TrainingData, *, normals: bool = False) -> "Expressions | None":
        """Read the training frames of ``subject``'s clips of expressions; None without a usable one.

        Args:
            data: the main clip's.
            normals: read normal maps too, where a clip has them.

        Raises:
            InputError: a file is missing or damaged.
        """
        if not subject.expressions or subject.valence_arousal is None:
            return None
        clips = subject.expressions.items()
        most = max(1, MOST_FRAMES // len(clips))
        found = [_load(name, clip, subject, data, most=most, normals=normals) for name, clip in clips]
        usable = tuple(clip for clip in found if clip is not None)
        return cls(usable) if usable else None

    @property
    def count(self) -> int:
        """Frames of all clips."""
        return sum(len(clip.indices) for clip in self.clips)

    def draw(self, generator: torch.Generator) -> int:
        """A random frame of a random clip: short ones count as much as long ones."""
        chosen = random_index(len(self.clips), generator)
        before = sum(len(clip.indices) for clip in self.clips[:chosen])
        return before + random_index(len(self.clips[chosen].indices), generator)

    def target(self, frame: int, *, normals: bool = False) -> Target:
        """A frame as target."""
        clip, row = self.find(frame)
        return clip.target(row, normals=normals)

    def find(self, frame: int) -> tuple[ExpressionClip, int]:
        """The clip of a frame, and its row there."""
        for clip in self.clips:
            if frame < len(clip.indices):
                return clip, frame
            frame -= len(clip.indices)
        raise IndexError("no such frame")

    def following(self, conditions: RecordedConditions) -> RecordedConditions:
        """The main clip's conditions and then those of all clips."""
        parts = [conditions, *(clip.conditions for clip in self.clips)]

        def joined(name: str) -> Tensor:
            return torch.cat([getattr(part, name) for part in parts])

        gaze = None if conditions.gaze is None else joined("gaze")
        return RecordedConditions(joined("viewmats"), joined("audio"), joined("aus"), joined("va"), gaze=gaze)


def uses_expressions(config: TrainConfig, source: Subject) -> bool:
    """True if the emotion stage learns from the subject's clips of expressions."""
    wanted = config.emotion.expression_share > 0 and config.emotion.iterations > 0
    return wanted and config.model.emotion.branch == "separate" and bool(source.expressions)


def gaps(subject: Subject) -> Float[np.ndarray, "N"]:
    """Distance of the inner lips in each frame, world units; nan where no face was found."""
    pixels = lip_gap(subject.landmarks.without_guesses().ibug68.astype(np.float64))
    return pixels * subject.viewmats[:, 2, 3] / subject.focal


def _load(
    name: str, clip: Subject, subject: Subject, data: TrainingData, *, most: int, normals: bool
) -> ExpressionClip | None:
    face = clip.landmarks
    device = data.device
    root = clip.files.root
    match = clip.colour_match
    va = clip.read_emotion
    shape = face.shape
    if match is None or va is None or shape is None or face.layout.name != data.layout.name:
        raise InputError(f"{root} is no clip of expressions of this person: remove it, or prepare it again.")
    usable = face.detected & (emotion_share(clip.viewmats) > 0) & np.isfinite(va).all(1)
    indices = clip.train_indices[usable[clip.train_indices]]
    if len(indices) == 0:
        return None
    indices = indices[np.linspace(0, len(indices) - 1, min(len(indices), most)).round().astype(int)]
    rows, aligned = _same_gap(gaps(clip)[indices], gaps(subject)[data.indices])
    aus = data.conditions.aus.median(0).values.repeat(len(indices), 1)
    aus[:, -1] = torch.from_numpy(clip.aus[indices, -1]).to(device)
    images = np.empty((len(indices), clip.height, clip.width, 3), np.uint8)
    labels = np.empty(images.shape[:3], np.uint8)
    compared = np.empty(labels.shape, bool)

    def read(slot: int) -> None:
        index = int(indices[slot])
        images[slot] = match.apply(clip.original(index), face.points[index], shape)
        labels[slot] = clip.masks(index).labels
        compared[slot] = _face(face.points[index], face.layout, labels[slot], lips=bool(aligned[slot]))

    with ThreadPoolExecutor() as pool:
        for _ in track(pool.map(read, range(len(indices))), f"read {name}", len(indices)):
            pass
    maps = clip.load_normals(indices) if normals else None

    def pick(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array[indices], dtype=np.float32)).to(device)

    return ExpressionClip(
        name=name,
        indices=indices,
        images=torch.from_numpy(images).to(device),
        labels=torch.from_numpy(labels).to(device),
        compared=torch.from_numpy(compared).to(device),
        normals=None if maps is None else torch.from_numpy(maps).to(device),
        points=pick(face.points),
        K=torch.from_numpy(np.asarray(clip.K, np.float32)).to(device),
        conditions=RecordedConditions(
            pick(clip.viewmats),
            data.conditions.audio[torch.from_numpy(rows).to(device)],
            aus,
            pick(va),
            gaze=pick(np.zeros((clip.num_frames, 2)) if clip.gaze is None else clip.gaze),
        ),
    )


def _same_gap(
    wanted: Float[np.ndarray, "F"], known: Float[np.ndarray, "M"]
) -> tuple[Int64[np.ndarray, "F"], Bool[np.ndarray, "F"]]:
    """The row of ``known`` nearest to each wanted gap, and True where it is near enough."""
    away = np.abs(wanted[:, None] - np.where(np.isfinite(known), known, np.inf))
    rows = away.argmin(1)
    return rows, np.asarray(away[np.arange(len(rows)), rows] <= SAME_GAP)


def _face(
    points: Float[np.ndarray, "K 2"], layout: FaceLayout, labels: UInt8[np.ndarray, "H W"], *, lips: bool
) -> Bool[np.ndarray, "H W"]:
    """Pixels inside the face's outline that are no hair; only those above the upper lip where not ``lips``."""
    inside = np.zeros(labels.shape, np.uint8)
    cv2.fillPoly(inside, [np.round(points[list(layout.oval)] - 0.5).astype(np.int32)], 1)
    shown = (inside > 0) & (labels != Label.HAIR)
    if not lips:
        ibug = points[list(layout.ibug68)]
        down = ibug[8] - ibug[27]
        rows, columns = np.indices(labels.shape) + 0.5
        shown &= (columns - ibug[33, 0]) * down[0] + (rows - ibug[33, 1]) * down[1] < 0
    return shown
