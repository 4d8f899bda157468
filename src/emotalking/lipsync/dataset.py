"""Training data of the personal sync expert: the mouths of a clip as small grey images, and its sound."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from math import ceil

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from emotalking.data import Subject
from emotalking.errors import NoFaceError
from emotalking.io.audio import SAMPLE_RATE, load_audio
from emotalking.lipsync.expert import smoothed_square
from emotalking.lipsync.personal import SIZE, lower_face, sound_bands
from emotalking.lipsync.windows import FPS, FRAMES, at_25_fps, pad_audio
from emotalking.networks.crops import crop
from emotalking.ops.box import Box
from emotalking.progress import track

MARGIN = 1.25
"""Stored crops are this much wider than the expert's input, so that training can move the crop."""
STORED = round(SIZE * MARGIN)
LONGEST_S = 900.0
"""Part of a clip that is used: the first quarter of an hour, 320 MB of images."""


@dataclass(frozen=True)
class TalkingClip:
    """One person talking, at 25 fps."""

    images: UInt8[np.ndarray, "N S S"]
    """Lower faces (:func:`~emotalking.lipsync.personal.lower_face`, ``MARGIN`` times as wide), grey."""
    detected: Bool[np.ndarray, " N"]
    """True where a face was found nearby; the image is black otherwise."""
    training: Bool[np.ndarray, " N"]
    """Frames to train on; the others are held out."""
    samples: Float[np.ndarray, " n"]
    """The sound, 16 kHz, beginning with frame 0."""
    fingerprint: str
    """SHA-256 of the source, or of its sound."""

    @cached_property
    def bands(self) -> Float[np.ndarray, "steps 40"]:
        """Mel bands of the sound (:func:`~emotalking.lipsync.personal.sound_bands`) under all windows."""
        return sound_bands(pad_audio(self.samples, len(self.images), FPS))

    def starts(self, training: bool, length: int = FRAMES) -> Int[np.ndarray, " n"]:
        """First frames of the runs of ``length`` frames that all show a face and all are for training (or held out)."""
        good = self.detected & (self.training == training)
        if len(good) < length:
            return np.zeros(0, np.int64)
        return np.flatnonzero(np.lib.stride_tricks.sliding_window_view(good, length).all(1))


def make_clip(
    frames: Iterable[UInt8[np.ndarray, "H W 3"]],
    points: Float[np.ndarray, "N 68 2"],
    samples: Float[np.ndarray, " n"],
    training: Bool[np.ndarray, " N"],
    fingerprint: str,
) -> TalkingClip:
    """Make a clip from frames at 25 fps, which are read once.

    Args:
        frames: RGB.
        points: landmarks of each, pixels, iBUG order; NaN where no face was found.
        samples: mono at 16 kHz, beginning with frame 0.
        training: frames to train on.
        fingerprint: of the source.
    """
    images = np.zeros((len(points), STORED, STORED), np.uint8)
    detected = np.zeros(len(points), bool)
    for index, image in enumerate(frames):
        square = smoothed_square(lower_face, points, index)
        if square is not None:
            images[index], detected[index] = _grey_crop(image, square), True
    # A mouth without sound, at the end, carries no training signal.
    detected[int(len(samples) * FPS / SAMPLE_RATE) :] = False
    return TalkingClip(images, detected, training, samples, fingerprint)


def _grey_crop(image: np.ndarray, square: Box) -> np.ndarray:
    """Crop a square with its margin; pixels are averaged where it is made smaller."""
    wide = square.grown(square.width * (MARGIN - 1) / 2)
    fine = max(1, ceil(wide.width / STORED))
    grey = cv2.cvtColor(crop(image, wide, STORED * fine), cv2.COLOR_RGB2GRAY)
    return cv2.resize(grey, (STORED, STORED), interpolation=cv2.INTER_AREA)


def subject_clip(subject: Subject) -> TalkingClip:
    """Make the clip of a subject folder; its held-out frames are not for training.

    Raises:
        UserError: a file is missing, or no frame shows a face.
    """
    indices = at_25_fps(subject.num_frames, subject.fps)[: int(LONGEST_S * FPS)]
    points = subject.landmarks.without_guesses().ibug68[indices].astype(np.float64)
    samples = load_audio(subject.files.audio, longest_s=LONGEST_S)
    training = np.isin(indices, subject.train_indices)
    frames = (subject.original(int(index)) for index in track(indices, f"mouths of {subject.files.root.name}"))
    clip = make_clip(frames, points, samples, training, _fingerprint(subject))
    if not clip.detected.any():
        raise NoFaceError(f"{subject.files.root} has no frame with a face and sound: prepare another clip.")
    return clip


def _fingerprint(subject: Subject) -> str:
    """Hash of the clip as noted when it was prepared, else that of its sound."""
    noted = subject.manifest.get("clip", {}).get("sha256")
    if noted:
        return str(noted)
    with subject.files.audio.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
