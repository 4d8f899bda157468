"""Training data of the personal sync expert: small grey images of a clip's mouths and its sound, and augmentations.

Augmentations change image and sound but keep them in sync; those of tensors take a generator on the device of the data.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from math import ceil

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from scipy.signal import fftconvolve
from torch import Tensor

from emotalking.data import Subject
from emotalking.errors import NoFaceError
from emotalking.io.audio import SAMPLE_RATE, load_audio
from emotalking.lipsync.expert import smoothed_square
from emotalking.lipsync.personal import SIZE, lower_face, sound_bands
from emotalking.lipsync.windows import FPS, FRAMES, at_25_fps, pad_audio
from emotalking.networks.crops import crop
from emotalking.networks.registry import sha256_of
from emotalking.ops.box import Box
from emotalking.progress import track

MARGIN = 1.25
"""Stored crops are this much wider than the expert's input, so that training can move the crop."""
STORED = round(SIZE * MARGIN)
LONGEST_S = 900.0
"""Part of a clip that is used: the first quarter of an hour, 320 MB of images."""

_SHIFT = 0.08
"""Largest shift of the square, as a share of its side."""
_DRIFT = 0.03
"""Largest drift of the square within a run, as a share of its side."""
_ZOOM = 0.1
"""Largest change of its size, as a share."""
_TURN = 0.12
"""Largest rotation [rad]."""
_WARP = 0.12
"""Largest shift of formants, as a share: from one voice to another, of man or woman."""


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
        InputError: a file is missing, or no frame shows a face.
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
    return str(noted) if noted else sha256_of(subject.files.audio)


def _uniform(shape: tuple[int, ...], low: float | int, high: float | int, rng: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=rng, device=rng.device)


def augment_images(images: Float[Tensor, "R T P P"], rng: torch.Generator) -> Float[Tensor, "R T S S"]:
    """Crop runs of stored images and change them as another camera, light, face or renderer might.

    Each run keeps one crop (moved, turned, resized, mirrored, slowly wandering), one light, one blur and one occluded
    place; noise differs from frame to frame. A third of the runs are mixed with their own mean, as
    renderings are that move too little.
    """
    runs, length = images.shape[:2]
    x = _blurred(_cropped(images, rng), rng)
    mixed = _uniform((runs, 1, 1, 1), 0.0, 0.5, rng) * (_uniform((runs, 1, 1, 1), 0, 1, rng) < 0.33)
    x = x + mixed * (x.mean(1, keepdim=True) - x)
    ramp = torch.linspace(-1, 1, SIZE, device=x.device)
    light = _uniform((runs, 2, 1, 1, 1), -0.35, 0.35, rng)
    x = x * (1 + light[:, 0] * ramp + light[:, 1] * ramp[:, None])
    x = x.clamp(1e-3, 1.5) ** torch.exp(_uniform((runs, 1, 1, 1), -0.5, 0.5, rng))
    grain = torch.randn(x.shape, generator=rng, device=x.device) * _uniform((runs, 1, 1, 1), 0.0, 0.05, rng)
    return _occluded(x + grain, rng)


def _cropped(images: Tensor, rng: torch.Generator) -> Tensor:
    """The expert's square, moved, turned and resized."""
    runs, length, stored = images.shape[:3]
    share = SIZE / stored
    zoom = share * (1 + _uniform((runs, 1), -_ZOOM, _ZOOM, rng))
    turn = _uniform((runs, 1), -_TURN, _TURN, rng)
    mirror = torch.where(_uniform((runs, 1), 0, 1, rng) < 0.5, -1.0, 1.0)
    way = torch.linspace(-0.5, 0.5, length, device=images.device)[:, None]
    moved = _uniform((runs, 1, 2), -_SHIFT, _SHIFT, rng)
    moved = 2 * share * (moved + way * _uniform((runs, 1, 2), -_DRIFT, _DRIFT, rng))
    cos, sin = zoom * torch.cos(turn), zoom * torch.sin(turn)
    rows = [torch.stack([mirror * cos, -sin], -1), torch.stack([mirror * sin, cos], -1)]
    affine = torch.cat([torch.stack(rows, 2).expand(-1, length, -1, -1), moved[..., None]], -1)
    grid = F.affine_grid(affine.flatten(0, 1), [runs * length, 1, SIZE, SIZE], align_corners=False)
    cut = F.grid_sample(images.flatten(0, 1)[:, None], grid, padding_mode="border", align_corners=False)
    return cut[:, 0].unflatten(0, (runs, length))


def _blurred(x: Tensor, rng: torch.Generator) -> Tensor:
    """Blur of up to 2.5 pixels for two thirds of the runs, one Gaussian a run."""
    runs = len(x)
    sigma = _uniform((runs, 1), 0.3, 2.5, rng)
    sigma = torch.where(_uniform((runs, 1), 0, 1, rng) < 0.33, 1e-2, sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-6, 7, device=x.device) / sigma) ** 2)
    kernel = kernel / kernel.sum(1, keepdim=True)
    planes = F.pad(x.transpose(0, 1), (6, 6, 6, 6), mode="replicate")
    planes = F.conv2d(planes, kernel[:, None, None], groups=runs)
    return F.conv2d(planes, kernel[:, None, :, None], groups=runs).transpose(0, 1)


def _occluded(x: Tensor, rng: torch.Generator) -> Tensor:
    """A grey box of up to 40 % a side over a third of the runs."""
    runs = len(x)
    middle, half = _uniform((2, runs, 1), 0, SIZE, rng), _uniform((2, runs, 1), 0.05, 0.2, rng) * SIZE
    inside = (torch.arange(SIZE, device=x.device) - middle).abs() < half
    box = inside[0, :, :, None] & inside[1, :, None] & (_uniform((runs, 1, 1), 0, 1, rng) < 0.33)
    return torch.where(box[:, None], x.mean((1, 2, 3))[:, None, None, None], x)


def augment_bands(bands: Float[Tensor, "R L K"], rng: torch.Generator) -> Float[Tensor, "R L K"]:
    """Change runs of bands as another voice and microphone might: shifted formants, tilted spectrum, noise, gaps."""
    runs, length, count = bands.shape
    factor = 1 + _uniform((runs, 1), -_WARP, _WARP, rng)
    place = (torch.arange(count, device=bands.device) * factor).clamp(0, count - 1)
    low = place.floor().long().clamp(max=count - 2)
    lower, upper = (bands.gather(2, (low + i)[:, None].expand(-1, length, -1)) for i in (0, 1))
    x = lower + (place - low)[:, None] * (upper - lower)
    ramp = torch.linspace(-1, 1, count, device=bands.device)
    tilt = _uniform((runs, 2, 1, 1), -0.3, 0.3, rng)
    x = x + tilt[:, 0] * ramp + tilt[:, 1] * (1 - 2 * ramp**2)
    x = x + torch.randn(x.shape, generator=rng, device=x.device) * _uniform((runs, 1, 1), 0.0, 0.3, rng)
    middle = _uniform((runs, 1), 0, count, rng)
    gap = (torch.arange(count, device=bands.device) - middle).abs() < _uniform((runs, 1), 0.0, 4.0, rng)
    return x.masked_fill(gap[:, None], 0.0)


def augment_recording(
    clip: TalkingClip, count: int, others: list[np.ndarray], rng: np.random.Generator
) -> Float[np.ndarray, "count steps 40"]:
    """Mel bands of a clip's sound, first as it is, then with the microphones and rooms of other recordings.

    Args:
        count: number of versions.
        others: other people's audio, for voices in the background; may be empty.
    """
    bands = [clip.bands]
    for _ in range(count - 1):
        sound = _filtered(_reverberated(clip.samples, rng), rng)
        sound = sound + _noise(len(sound), others, rng) * np.sqrt((sound**2).mean() + 1e-12)
        level = 10 ** rng.uniform(-1.5, -0.5) / (np.abs(sound).max() + 1e-9)
        bands.append(sound_bands(pad_audio((sound * level).astype(np.float32), len(clip.images), FPS)))
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
    """Response of a microphone: gains of up to 8 dB at six frequencies, smooth between, linear phase without delay."""
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
