"""Measures of faces in landmarks (size, direction, mouth, lids), of images (detail, compression) and of sound."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy.ndimage import binary_closing, binary_opening, percentile_filter

from emotalking.audio.mel import HOP, MelSpectra, mel_spectra, normalise
from emotalking.data.blink import LONGEST_BLINK_S, OPENING_IN_BLINK
from emotalking.data.frame import lip_gap
from emotalking.data.layouts import FaceLayout

CLOSED = 0.006
"""Closed lips by :func:`mouth_opening`: MediaPipe's inner lips never quite meet."""
_REST_S = 3.0
_SMOOTH = 8.0
"""Steps between neighbouring pixels (grey levels) above this are edges of the scene, not of blocks."""
STEP_S = HOP / 16000
"""Seconds from one step of the activity to the next."""
_ACTIVE = 0.3
"""Mean of the normalised channels: 0 is silence, speech 2."""
_BRIDGE, _SHORTEST = 12, 3
"""Steps: pauses below a quarter of a second belong to the speech; clicks are shorter than 60 ms."""
_TOP, _BELOW = 0.98, 0.9
"""Shares of the peak: clipped sound piles up in the uppermost 2 %, all other sound (a pure tone most: 0.8 of what is in
the 8 % beneath) does not."""
_PILE = 1.5
_CHUNK = 1 << 18
_LOUD = 0.3
"""Peaks under this are far from any converter's limit."""


def face_height(points: Float[np.ndarray, "N K 3"], layout: FaceLayout) -> Float[np.ndarray, " N"]:
    """Forehead to chin along the face (a nodding head keeps it), in the points' unit."""
    return np.linalg.norm(points[:, layout.oval[0]] - points[:, layout.ibug68[8]], axis=-1)


def mouth_opening(points: Float[np.ndarray, "N K 3"], layout: FaceLayout) -> Float[np.ndarray, " N"]:
    """Gap of the inner lips over the size of the head (forehead to brow line and eye to eye, which no jaw moves)."""
    index = layout.ibug68
    tall = np.linalg.norm(points[:, layout.oval[0]] - points[:, index[27]], axis=-1)
    wide = np.linalg.norm(points[:, layout.right_upper_lid[0]] - points[:, layout.left_upper_lid[0]], axis=-1)
    return lip_gap(points[:, list(index)]) / (tall + wide)


def lid_gap(points: Float[np.ndarray, "N K 3"], layout: FaceLayout) -> Float[np.ndarray, " N"]:
    """Height over width of the eyes' opening, the larger of both (a turned head hides one)."""
    sides = []
    for upper, lower in (
        (layout.right_upper_lid, layout.right_lower_lid),
        (layout.left_upper_lid, layout.left_lower_lid),
    ):
        width = np.linalg.norm(points[:, upper[0]] - points[:, upper[-1]], axis=-1)
        pairs = zip(upper[1:-1], lower[1:-1], strict=True)
        height = np.mean([np.linalg.norm(points[:, a] - points[:, b], axis=-1) for a, b in pairs], 0)
        sides.append(height / width)
    return np.max(sides, 0)


def head_turn(points: Float[np.ndarray, "N K 3"], layout: FaceLayout) -> Float[np.ndarray, "N 2"]:
    """Yaw (positive: the person's right side turns to the front) and pitch (positive: up) in degrees.

    From the depth that the landmarks carry: good to a few degrees, no camera is solved.
    """
    index = layout.ibug68
    across = points[:, layout.left_upper_lid[0]] - points[:, layout.right_upper_lid[0]]
    across = across + points[:, index[16]] - points[:, index[0]]
    down = points[:, index[8]] - points[:, layout.oval[0]]
    yaw = np.arctan2(across[:, 2], np.hypot(across[:, 0], across[:, 1]))
    pitch = np.arctan2(-down[:, 2], np.hypot(down[:, 0], down[:, 1]))
    return np.degrees(np.stack([yaw, pitch], -1))


def head_roll(points: Float[np.ndarray, "N K 3"], layout: FaceLayout) -> Float[np.ndarray, " N"]:
    """Angle of the line from forehead to chin against the image's upright, degrees, -180 to 180."""
    down = points[:, layout.ibug68[8]] - points[:, layout.oval[0]]
    return np.degrees(np.arctan2(down[:, 0], down[:, 1]))


def cropped(points: Float[np.ndarray, "N K 3"], layout: FaceLayout, size: tuple[int, int]) -> Bool[np.ndarray, " N"]:
    """Frames in which the oval of the face leaves the image of ``size`` (height, width)."""
    oval = points[:, list(layout.oval), :2]
    inside = (oval >= 0).all(-1) & (oval[..., 0] <= size[1]) & (oval[..., 1] <= size[0])
    # An image that ends at the hair line is acceptable.
    return (~inside).mean(-1) > 0.05


def blink_starts(lids: Float[np.ndarray, " N"], fps: float) -> list[int]:
    """Frames in which a blink begins: the lids close well below their usual gap and open again soon.

    Args:
        lids: :func:`lid_gap`; NaN where no face was detected.
        fps: frame rate.
    """
    valid = np.flatnonzero(np.isfinite(lids))
    if len(valid) < fps / 2:
        return []
    whole = np.interp(np.arange(len(lids)), valid, lids[valid])
    rest = percentile_filter(whole, 70, size=max(round(_REST_S * fps), 3), mode="nearest")
    edges = np.diff(np.concatenate([[0], (whole < OPENING_IN_BLINK * rest).astype(int), [0]]))
    begins, ends = np.flatnonzero(edges > 0), np.flatnonzero(edges < 0)
    return begins[ends - begins <= LONGEST_BLINK_S * fps].tolist()


def detail(grey: UInt8[np.ndarray, "H W"]) -> float:
    """Energy of the finest octave over that of the next two: low where the image was blurred or enlarged.

    Noise counts as detail; the measure is a ratio, so that light and contrast do not matter.
    """
    image = grey.astype(np.float32)
    levels = [image, *(cv2.GaussianBlur(image, (0, 0), sigma) for sigma in (1.0, 3.0))]
    fine, coarse = (float((a - b).var()) for a, b in zip(levels[:-1], levels[1:], strict=True))
    return fine / max(coarse, 1e-6)


def blockiness(grey: UInt8[np.ndarray, "H W"]) -> float:
    """Steps at the borders of 8x8 blocks over those elsewhere, in smooth areas: 1 for none, 1.3 is visible.

    Only meaningful where images were not rescaled after they were coded; newer codecs smooth their borders.
    """
    at_border, elsewhere = [], []
    for axis in (0, 1):
        first, second = (grey[:, :-1], grey[:, 1:]) if axis == 0 else (grey[:-1], grey[1:])
        step = cv2.absdiff(first, second)
        smooth = step < _SMOOTH
        total, count = (step * smooth).sum(axis), smooth.sum(axis)
        border = np.arange(len(total)) % 8 == 7
        for lines, out in ((border, at_border), (~border, elsewhere)):
            out.append(total[lines].sum() / max(count[lines].sum(), 1))
    return float(np.mean(at_border) / max(float(np.mean(elsewhere)), 1e-3))


@dataclass(frozen=True)
class SoundFacts:
    """Result of :func:`sound_facts`."""

    active: Bool[np.ndarray, " steps"]
    """Speech (or any sound above the room's noise), one value every 20 ms."""
    level_db: Float[np.ndarray, " steps"]
    """Loudness, dB against full scale."""
    speech_share: float
    speech_s: float
    noise_db: float
    """Level of the speech above its pauses, treble stressed; 99 for digital silence."""
    clipped_share: float
    """Share of all samples."""


def sound_facts(samples: Float[np.ndarray, " S"]) -> SoundFacts:
    """Measure 16 kHz mono ``samples`` in [-1, 1]; memory stays flat when they are memory-mapped."""
    spectra = mel_spectra(_chunks(samples))
    active = speech_steps(spectra)
    square = spectra.mean_square.astype(np.float64)
    speech_s = float(active.sum()) * STEP_S
    return SoundFacts(
        active=active,
        level_db=10 * np.log10(np.maximum(square, 1e-10)),
        speech_share=float(active.mean()) if len(active) else 0.0,
        speech_s=speech_s,
        noise_db=_above_noise(square, active),
        clipped_share=clipped_share(samples),
    )


def speech_steps(spectra: MelSpectra) -> Bool[np.ndarray, " steps"]:
    """Steps louder than room and noise, pauses within words bridged."""
    active = normalise(spectra)[:].mean(-1) > _ACTIVE
    joined = binary_closing(np.pad(active, _BRIDGE), np.ones(_BRIDGE))[_BRIDGE:-_BRIDGE]
    return np.asarray(binary_opening(joined, np.ones(_SHORTEST)), bool)


def _above_noise(square: np.ndarray, active: np.ndarray) -> float:
    """Speech level over the quiet end of the recording (its lowest tenth that is not digital silence), dB."""
    if not active.any():
        return 0.0
    floor = float(np.percentile(square, 10))
    if floor < 1e-10:
        return 99.0
    return float(10 * np.log10(square[active].mean() / floor))


def clipped_share(samples: Float[np.ndarray, " S"]) -> float:
    """Share of samples that a converter or an encoder cut off at its limit."""
    peak = max((float(np.abs(chunk).max()) for chunk in _chunks(samples)), default=0.0)
    if peak < _LOUD:
        return 0.0
    counts = np.zeros(2)
    for chunk in _chunks(samples):
        size = np.abs(chunk)
        counts += (size > _BELOW * peak).sum(), (size > _TOP * peak).sum()
    below, top = (counts - [counts[1], 0]) / len(samples)
    return float(top) if top > _PILE * below else 0.0


def _chunks(samples: np.ndarray) -> Iterator[Float[np.ndarray, " n"]]:
    """A few seconds at a time."""
    return (samples[begin : begin + _CHUNK].astype(np.float32) for begin in range(0, len(samples), _CHUNK))


def most_spoken(active: Bool[np.ndarray, " steps"], part: tuple[float, float], seconds: float) -> tuple[float, float]:
    """The window of ``seconds`` within ``part`` (begin, end) that holds the most speech."""
    begin, end = part
    if end - begin <= seconds:
        return part
    steps, first = round(seconds / STEP_S), round(begin / STEP_S)
    inside = np.concatenate([active, np.zeros(max(round(end / STEP_S) - len(active), 0), bool)])
    total = np.cumsum(np.concatenate([[0], inside[first : round(end / STEP_S)].astype(int)]))
    if len(total) <= steps:
        return begin, begin + seconds
    begin += int((total[steps:] - total[:-steps]).argmax()) * STEP_S
    return begin, begin + seconds
