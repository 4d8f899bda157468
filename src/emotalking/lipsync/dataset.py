"""What the personal sync expert learns from: the mouths of a clip as small grey pictures, its sound in many rooms."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy.signal import fftconvolve

from emotalking.data import Subject
from emotalking.errors import NoFaceError
from emotalking.io.audio import SAMPLE_RATE, load_audio
from emotalking.lipsync.expert import calm_square
from emotalking.lipsync.personal import SIZE, lower_face, sound_bands
from emotalking.lipsync.windows import FPS, FRAMES, at_25_fps, padded
from emotalking.networks.crops import Square
from emotalking.progress import track

MARGIN = 1.25
"""Stored squares are this much wider than what the expert sees, so that training can move the cut."""
STORED = round(SIZE * MARGIN)
LONGEST_S = 900.0
"""Of a clip that is used: the first quarter of an hour, 320 MB of pictures."""


@dataclass(frozen=True)
class TalkingClip:
    """One person talking, 25 frames a second."""

    pictures: UInt8[np.ndarray, "N S S"]
    """Lower faces (:func:`~emotalking.lipsync.personal.lower_face`, ``MARGIN`` times as wide), grey."""
    seen: Bool[np.ndarray, " N"]
    """Whether a face was found nearby; the picture is black otherwise."""
    learn: Bool[np.ndarray, " N"]
    """Frames to learn from; the others are for measuring."""
    samples: Float[np.ndarray, " n"]
    """The sound, 16 kHz, beginning with frame 0."""
    fingerprint: str
    """SHA-256 of the source, or as much as is known of it."""

    def starts(self, learn: bool, length: int = FRAMES) -> Int[np.ndarray, " n"]:
        """Frames with which runs of ``length`` frames begin that are all seen and all (not) to learn from."""
        good = self.seen & (self.learn == learn)
        if len(good) < length:
            return np.zeros(0, np.int64)
        return np.flatnonzero(np.lib.stride_tricks.sliding_window_view(good, length).all(1))


def make_clip(
    frames: Iterable[UInt8[np.ndarray, "H W 3"]],
    points: Float[np.ndarray, "N 68 2"],
    samples: Float[np.ndarray, " n"],
    learn: Bool[np.ndarray, " N"],
    fingerprint: str,
) -> TalkingClip:
    """A clip from frames at 25 a second, which stream by once.

    Args:
        frames: RGB.
        points: landmarks of each, pixels, iBUG order; NaN where no face was found.
        samples: mono at 16 kHz, beginning with frame 0.
        learn: frames to learn from.
        fingerprint: of the source.
    """
    pictures = np.zeros((len(points), STORED, STORED), np.uint8)
    seen = np.zeros(len(points), bool)
    for index, image in enumerate(frames):
        square = calm_square(lower_face, points, index)
        if square is not None:
            pictures[index], seen[index] = _grey_cut(image, square), True
    # A mouth without its sound, at the end, teaches nothing.
    seen[int(len(samples) * FPS / SAMPLE_RATE) :] = False
    return TalkingClip(pictures, seen, learn, samples, fingerprint)


def _grey_cut(image: np.ndarray, square: Square) -> np.ndarray:
    """The square with its margin, pixels averaged where it is made smaller."""
    side, middle = square.side * MARGIN, square.side * (MARGIN - 1) / 2
    fine = max(1, ceil(side / STORED))
    wide = Square(square.left - middle, square.top - middle, side)
    cut = cv2.cvtColor(wide.cut(image, STORED * fine), cv2.COLOR_RGB2GRAY)
    return cv2.resize(cut, (STORED, STORED), interpolation=cv2.INTER_AREA)


def subject_clip(subject: Subject) -> TalkingClip:
    """The clip of a subject folder; its held-out frames are not learned from.

    Raises:
        UserError: a file is missing, or no frame shows a face.
    """
    shown = at_25_fps(subject.num_frames, subject.fps)[: int(LONGEST_S * FPS)]
    points = subject.landmarks.without_guesses().ibug68[shown].astype(np.float64)
    samples = load_audio(subject.files.audio, longest_s=LONGEST_S)
    learn = np.isin(shown, subject.train_indices)
    frames = (subject.original(int(index)) for index in track(shown, f"mouths of {subject.files.root.name}"))
    clip = make_clip(frames, points, samples, learn, _fingerprint(subject))
    if not clip.seen.any():
        raise NoFaceError(f"{subject.files.root} has no frame with a face and sound: prepare another clip.")
    return clip


def _fingerprint(subject: Subject) -> str:
    """The clip's hash as noted when it was prepared, else that of its sound."""
    noted = subject.manifest.get("clip", {}).get("sha256")
    if noted:
        return str(noted)
    with subject.files.audio.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def rooms(
    clip: TalkingClip, count: int, others: list[np.ndarray], rng: np.random.Generator
) -> Float[np.ndarray, "count steps 40"]:
    """The clip's sound as bands, first as it is and then as other microphones in other rooms would have heard it.

    Args:
        count: how many.
        others: other people's sounds, for voices in the background; may be empty.
    """
    frames = len(clip.pictures)
    bands = [sound_bands(padded(clip.samples, frames, FPS))]
    for _ in range(count - 1):
        heard = _filtered(_reverberated(clip.samples, rng), rng)
        heard = heard + _noise(len(heard), others, rng) * np.sqrt((heard**2).mean() + 1e-12)
        level = 10 ** rng.uniform(-1.5, -0.5) / (np.abs(heard).max() + 1e-9)
        bands.append(sound_bands(padded((heard * level).astype(np.float32), frames, FPS)))
    steps = min(map(len, bands))
    return np.stack([part[:steps] for part in bands])


def _reverberated(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Direct sound plus a decaying tail: 0.1 to 0.5 s, 3 to 20 dB below."""
    seconds = rng.uniform(0.1, 0.5)
    times = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.standard_normal(len(times)) * 10 ** (-3 * times / seconds)
    tail *= 10 ** (-rng.uniform(3, 20) / 20) / np.linalg.norm(tail)
    tail[0] += 1.0
    return fftconvolve(samples, tail)[: len(samples)]


def _filtered(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A microphone: gains of up to 8 dB at six places of the spectrum, smooth between, linear phase without delay."""
    bins = np.linspace(0, SAMPLE_RATE / 2, 513)
    places = np.array([0.0, 300.0, 800.0, 2000.0, 4500.0, 8000.0])
    gains = 10 ** (np.interp(bins, places, rng.uniform(-8, 8, len(places))) / 20)
    kernel = np.fft.fftshift(np.fft.irfft(gains)) * np.hanning(1024)
    return fftconvolve(samples, kernel, "same")


def _noise(length: int, others: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Noise of some colour, or other voices, 5 to 40 dB below a signal of level 1."""
    if others and rng.random() < 0.4:
        voice = others[rng.integers(len(others))]
        made = np.roll(np.resize(voice, length), rng.integers(max(length, 1)))
    else:
        spectrum = np.fft.rfft(rng.standard_normal(length))
        made = np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 1) ** rng.uniform(0, 0.8), length)
    return made / np.sqrt((made**2).mean() + 1e-12) * 10 ** (-rng.uniform(5, 40) / 20)
