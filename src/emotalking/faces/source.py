"""Sources of frames for emotional faces: images, clips and subject folders, with landmarks, labels and pose.

An unprepared image or clip is analysed by the same models as in ``prepare`` (landmarks, parsing) in one pass: the
shape of the face is the detector's own, the pose is fitted to its rigid points, each frame on its own.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

from emotalking.data import Subject
from emotalking.data.frame import TURNED, emotion_share, turned_deg
from emotalking.data.labels import Label
from emotalking.data.layouts import FaceLayout
from emotalking.errors import InputError, NoFaceError
from emotalking.io.images import read_image
from emotalking.io.video import probe, read_frames
from emotalking.ops.box import Box
from emotalking.ops.geometry import fit_similarity
from emotalking.preprocess.check.appearance import colour_spread, lips_contrast
from emotalking.preprocess.check.verdict import HIDDEN_LIPS, MONOCHROME
from emotalking.preprocess.config import PoseConfig
from emotalking.preprocess.detectors import FaceFinder, HandFinder, count_other_faces, hand_before_face
from emotalking.preprocess.landmarks import LandmarkProvider, open_provider
from emotalking.preprocess.parsing.parser import ClipParser, EmbeddedParsing
from emotalking.preprocess.pose.rigid import head_frame

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif")
SAMPLE_FRAMES = 24
"""Frames of a clip that are analysed first, for the position, shape and colours of the face."""
ROOM = 1.3
"""Half side of the square around a face, in heights of the detector's box (brows to chin)."""
READABLE = 256
"""Pixels; smaller crops are enlarged for the detector (the frame itself is not)."""
SMALLEST = 16.0
"""Pixels between the eyes below which a face has no expression that could be edited."""
CUT_OFF = 0.15
"""Share of the face's outline that may lie outside the image without a remark."""


@dataclass(frozen=True)
class SourceFrame:
    """One image with the analysis of its face. All fields but ``image`` refer to the box."""

    image: UInt8[np.ndarray, "H W 3"]
    box: Box
    """Analysed part of ``image``."""
    landmarks: Float32[np.ndarray, "K 2"]
    labels: UInt8[np.ndarray, "h w"]
    viewmat: Float32[np.ndarray, "4 4"]
    share: float
    """Share of an emotion that this frame can express: 1; less where the face is turned far; 0 without a face."""


@runtime_checkable
class FaceSource(Protocol):
    """Frames of one person."""

    shape: Float[np.ndarray, "K 3"]
    """Face in the head frame, world units."""
    layout: FaceLayout
    K: Float[np.ndarray, "3 3"]
    """Intrinsics of the box, pixels."""
    fps: Fraction | None
    """None: a single image."""
    count: int | None
    """Frames; None where that is not known before the end."""
    sound: Path | None
    """File whose sound belongs to the frames."""
    remarks: list[str]
    """Notes for the user."""

    def frames(self, start: int = 0) -> Iterator[SourceFrame]:
        """Iterate over the frames from number ``start``."""
        ...


def open_source(path: Path) -> FaceSource:
    """A prepared subject's folder, an image, or a clip.

    Raises:
        InputError: none of these, or no single face in it that can be edited.
    """
    if path.is_dir():
        return SubjectFaces(Subject.open(path))
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder.")
    return _RawSource(path, is_image=path.suffix.lower() in IMAGE_SUFFIXES)


class SubjectFaces:
    """A prepared subject's recorded frames; see :class:`FaceSource`."""

    def __init__(self, subject: Subject) -> None:
        """Raises: InputError: the folder has no 3-D face."""
        track = subject.landmarks
        if track.shape is None:
            raise InputError(f"{subject.files.root} has no 3-D landmarks: complete it with 'emotalking import'.")
        self.subject = subject
        self.shape = track.shape
        self.layout = track.layout
        self.K = subject.K
        self.fps: Fraction | None = subject.fps
        self.count: int | None = subject.num_frames
        self.sound = subject.files.audio if subject.files.audio.exists() else None
        self.remarks: list[str] = []

    def frames(self, start: int = 0) -> Iterator[SourceFrame]:
        """See :class:`FaceSource`."""
        subject, track = self.subject, self.subject.landmarks
        for index in range(start, subject.num_frames):
            points, viewmat = track.points[index].astype(np.float32), subject.viewmats[index]
            detected = bool(track.detected[index]) and bool(np.isfinite(points).all())
            yield SourceFrame(
                subject.original(index),
                Box.whole(subject.width, subject.height),
                points,
                subject.masks(index).labels,
                viewmat,
                float(emotion_share(viewmat)) if detected else 0.0,
            )


@dataclass
class _Sample:
    """Analysis of one frame in the box."""

    crop: UInt8[np.ndarray, "h w 3"]
    points: Float[np.ndarray, "K 3"]


@dataclass
class _RawSource:
    """An unprepared image or clip; see :class:`FaceSource`."""

    path: Path
    is_image: bool
    remarks: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Raises: InputError: no single face in it that can be edited."""
        self.sound: Path | None = None
        self.fps: Fraction | None = None
        self.count: int | None = 1
        if not self.is_image:
            info = probe(self.path)
            self.fps = info.fps
            self.count = None if info.seconds is None else max(round(info.seconds * info.fps), 1)
            self.sound = self.path if info.has_audio else None
        self._still = read_image(self.path) if self.is_image else None
        images = list(self._sample_frames())
        self.box = self._find(images)
        self._provider: LandmarkProvider = open_provider()
        self.layout: FaceLayout = self._provider.layout
        samples = [one for one in map(self._sample, images) if one is not None]
        if not samples:
            raise InputError(f"{self.path}: the face cannot be read; give an image that shows it from the front.")
        self._check_size(samples)
        self._note_cut(samples)
        self.shape: Float[np.ndarray, "K 3"] = self._shape(samples)
        height, width = samples[0].crop.shape[:2]
        focal = PoseConfig().focal_ratio * max(height, width)
        self.K: Float[np.ndarray, "3 3"] = np.array(
            [[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], np.float32
        )
        self._check_pose(samples)
        self._note_hands(samples)
        self._note_mouth(samples)
        self._parser: ClipParser = EmbeddedParsing().fit(
            [one.crop for one in samples], np.stack([one.points[:, :2] for one in samples]), self.layout
        )

    def frames(self, start: int = 0) -> Iterator[SourceFrame]:
        """See :class:`FaceSource`."""
        for number, image in enumerate(self._images()):
            if number >= start:
                yield self._analyse(image)

    def _images(self) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        if self._still is not None:
            yield self._still
        elif self.fps is not None:
            yield from read_frames(self.path, self.fps)

    def _sample_frames(self) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        """Frames spread over the clip; the first ones where its length is not known."""
        stride = 1 if self.count is None else max(self.count // SAMPLE_FRAMES, 1)
        for number, image in enumerate(self._images()):
            if number >= SAMPLE_FRAMES * stride:
                return
            if number % stride == 0:
                yield image

    def _find(self, images: list[np.ndarray]) -> Box:
        """Box that contains the face in all frames."""
        finder = FaceFinder()
        found = [finder.find(image) for image in images]
        boxes = [one[0] for one in found if one]
        if not boxes:
            raise NoFaceError(f"{self.path}: no face was found; give an image or a clip of a person's face.")
        if any(one and count_other_faces(one) for one in found):
            raise InputError(f"{self.path} shows two faces; crop it so that one person is seen.")
        centres, reach = np.array([box.centre for box in boxes]), ROOM * np.array([[box.height] for box in boxes])
        reached = Box.around(np.concatenate([centres - reach, centres + reach]))
        height, width = images[0].shape[:2]
        top, left = math.floor(reached.top), math.floor(reached.left)
        return Box(top, left, math.ceil(reached.bottom), math.ceil(reached.right)).clipped(width, height)

    def _sample(self, image: UInt8[np.ndarray, "H W 3"]) -> _Sample | None:
        """The face in the box, small boxes enlarged for the detector; None without a detection."""
        crop = np.ascontiguousarray(image[self.box.index])
        scale, (height, width) = max(READABLE / min(crop.shape[:2]), 1.0), crop.shape[:2]
        # The detector's depth is correct in square images only.
        side = max(height, width)
        large = cv2.copyMakeBorder(crop, 0, side - height, 0, side - width, cv2.BORDER_REPLICATE)
        if scale > 1:
            large = cv2.resize(large, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        points = self._provider.detect(np.asarray(large, np.uint8))
        return None if points is None else _Sample(crop, points.astype(np.float64) / scale)

    def _check_size(self, samples: list[_Sample]) -> None:
        right, left = self.layout.eye_centres(np.stack([one.points for one in samples]))
        eyes = np.median(np.linalg.norm(left - right, axis=1))
        if eyes < SMALLEST:
            raise InputError(
                f"{self.path}: the eyes of the face are {eyes:.0f} pixels apart, and {SMALLEST:.0f} are needed; give a"
                " larger image of it."
            )

    def _note_cut(self, samples: list[_Sample]) -> None:
        height, width = samples[0].crop.shape[:2]
        oval = np.stack([one.points[list(self.layout.oval), :2] for one in samples])
        outside = ((oval < 0) | (oval > [width, height])).any(-1).mean(-1)
        if np.median(outside) > CUT_OFF:  # the box holds all of the face that the image has
            self.remarks.append("part of the face lies outside the image, so only the rest shows the emotion")

    def _shape(self, samples: list[_Sample]) -> Float[np.ndarray, "K 3"]:
        """The detector's 3-D face in the head frame, the median over the frames."""
        faces = []
        for one in samples:
            upright = one.points * np.array([1, -1, -1])
            scale, rotation, offset = head_frame(upright, self.layout)
            faces.append(scale * upright @ rotation.T + offset)
        return np.median(faces, 0)

    def _pose(self, points: Float[np.ndarray, "K 3"]) -> Float32[np.ndarray, "4 4"]:
        """Head to camera from the rigid points: weak perspective, at the distance given by the scale."""
        rigid, focal = list(self.layout.rigid), float(self.K[0, 0])
        scale, rotation, offset = fit_similarity(self.shape[rigid], points[rigid])
        viewmat = np.eye(4)
        viewmat[:3, :3] = rotation
        viewmat[:2, 3] = (offset[:2] - self.K[:2, 2]) / scale
        viewmat[2, 3] = focal / scale
        return viewmat.astype(np.float32)

    def _check_pose(self, samples: list[_Sample]) -> None:
        turned = min(float(turned_deg(self._pose(one.points))) for one in samples)
        if turned >= TURNED[1]:
            raise InputError(
                f"{self.path}: the face is turned {turned:.0f} degrees away, and from {TURNED[1]:.0f} on too little of"
                " it is seen; give an image from the front."
            )
        if turned > TURNED[0]:
            self.remarks.append(f"the face is turned {turned:.0f} degrees away, so the emotion is shown weaker")

    def _note_hands(self, samples: list[_Sample]) -> None:
        finder, oval = HandFinder(), list(self.layout.oval)
        covered = sum(
            any(hand_before_face(hand, one.points[oval, :2]) for hand in finder.find(one.crop)) for one in samples
        )
        if covered:
            where = "" if self.is_image else f" in {covered} of {len(samples)} frames looked at"
            self.remarks.append(f"a hand is before the face{where}: it is bent together with the skin behind it")

    def _note_mouth(self, samples: list[_Sample]) -> None:
        lips = np.median([lips_contrast(one.crop, one.points[:, :2], self.layout) for one in samples])
        if lips < HIDDEN_LIPS and np.median([colour_spread(one.crop) for one in samples]) >= MONOCHROME:
            self.remarks.append(
                "the mouth is covered (a mask, a microphone?): what covers it is bent as if it were lips; give"
                " images that show them"
            )

    def _analyse(self, image: UInt8[np.ndarray, "H W 3"]) -> SourceFrame:
        found = self._sample(image)
        if found is None:
            nothing = np.full((len(self.shape), 2), np.nan, np.float32)
            labels = np.full(self.box.size[::-1], int(Label.BACKGROUND), np.uint8)
            return SourceFrame(image, self.box, nothing, labels, np.eye(4, dtype=np.float32), 0.0)
        points, viewmat = found.points[:, :2].astype(np.float32), self._pose(found.points)
        labels = self._parser.decide(found.crop, points, self._parser.scores(found.crop, points)).labels
        return SourceFrame(image, self.box, points, labels, viewmat, float(emotion_share(viewmat)))
