"""Images of an evaluation: best and worst frames, strips, the faces of the twelve points on their circle."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int64, UInt8

from emotalking.data import Subject
from emotalking.data.blink import CLOSURE_MARGIN
from emotalking.emotion.circumplex import TEST_POINTS
from emotalking.evaluate.held_out import reconstruct
from emotalking.evaluate.metrics import Metric
from emotalking.io.audio import SAMPLE_RATE
from emotalking.models.avatar import Avatar
from emotalking.ops.box import Box
from emotalking.ops.composite import to_uint8
from emotalking.report.contact_sheet import circumplex_sheet
from emotalking.report.images import ERROR_GAIN, error_map, fit_width, grid

STRIP = 8
"""Consecutive frames in a strip."""
_WIDE, _CELL = 400, 168
_FACE = 148


class NamedImage(NamedTuple):
    """An image of a report."""

    name: str
    """File name without its suffix."""
    image: UInt8[np.ndarray, "h w 3"]
    caption: str


def of_reconstruction(
    avatar: Avatar, subject: Subject, indices: Int64[np.ndarray, " F"], va: Float[np.ndarray, "F 2"], psnr: Metric
) -> list[NamedImage]:
    """Worst, median and best frame by PSNR with truth and error; a strip around the widest change of the mouth."""
    if psnr.per_frame is None:
        return []

    def pairs(frames: slice) -> list[tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W 3"]]]:
        """Recorded and rendered frames, rendered a second time instead of storing all until the best is known."""
        made = reconstruct(avatar, subject, indices[frames], va[frames] if avatar.emotional else None)
        return [
            (subject.target(int(index)), to_uint8(image)) for index, image in zip(indices[frames], made, strict=True)
        ]

    order = np.argsort(psnr.per_frame)
    found = []
    for name, at in {"worst": order[0], "median": order[len(order) // 2], "best": order[-1]}.items():
        truth, image = pairs(slice(at, at + 1))[0]
        panels = [fit_width(panel, _WIDE) for panel in (truth, image, error_map(image, truth))]
        caption = f"{name} frame ({indices[at]}): recorded, avatar, error x{ERROR_GAIN:g}; {psnr.per_frame[at]:.2f} dB"
        found.append(NamedImage(f"self_{name}", np.concatenate(panels, 1), caption))
    run = _liveliest(subject.mouth_opening[indices], STRIP)
    shown, box = pairs(run), face_box(subject, indices[run])
    strip = grid([[pair[row][box.index] for pair in shown] for row in range(2)], _CELL)
    caption = f"frames {indices[run][0]}-{indices[run][-1]} in a row: recorded above, avatar beneath"
    return [*found, NamedImage("self_strip", strip, caption)]


def of_speech(
    subject: Subject, number: int, name: str, frames: Mapping[int, np.ndarray | None], poses: Int64[np.ndarray, " N"]
) -> NamedImage:
    """A strip of consecutive frames of a spoken sound; ``poses``: the subject's frame under each frame of it."""
    stored = [frame for _, frame in sorted(frames.items()) if frame is not None]
    box = face_box(subject, poses[sorted(frames)])
    strip = grid([[frame[box.index] for frame in stored]], _CELL)
    return NamedImage(f"cross_{number}", strip, f"{name}: frames {min(frames)}-{max(frames)} in a row")


def of_emotion(
    subject: Subject, faces: Sequence[UInt8[np.ndarray, "H W 3"]], poses: Int64[np.ndarray, "12"]
) -> NamedImage:
    """The faces of the twelve points where the points lie on the plane; ``poses``: the subject's frame under each."""
    box = face_box(subject, poses)
    places = [(point.valence, point.arousal) for point in TEST_POINTS]
    sheet = circumplex_sheet([face[box.index] for face in faces], places, [p.label for p in TEST_POINTS], cell=_FACE)
    caption = "the twelve commanded points, each face at its place on the plane (same head pose)"
    return NamedImage("emotion_circle", sheet, caption)


def face_box(subject: Subject, indices: Int64[np.ndarray, " n"]) -> Box:
    """One square that holds the face in all of the frames ``indices``."""
    track = subject.landmarks
    there = indices[track.detected[indices]]
    points = track.ibug68[there if len(there) else track.detected].reshape(-1, 2)
    low, high = points.min(0), points.max(0)
    side = int(min(1.1 * (high - low).max(), subject.width, subject.height))
    left, top = np.clip((low + high) / 2 - side / 2, 0, np.array([subject.width, subject.height]) - side).astype(int)
    return Box(int(top), int(left), int(top) + side, int(left) + side)


def loudest_stretch(samples: Float[np.ndarray, " S"], count: int, fps: float | int) -> range:
    """The :data:`STRIP` consecutive frames, of ``count``, with the most sound."""
    length = min(STRIP, count)
    edges = (np.arange(count + 1) / float(fps) * SAMPLE_RATE).astype(int).clip(0, len(samples))
    energy = np.diff(np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])[edges])
    begin = int(np.convolve(energy, np.ones(length), "valid").argmax())
    return range(begin, begin + length)


def open_eyed(blink: Float[np.ndarray, " F"]) -> int:
    """The frame nearest to the middle whose eyes are about as open as those of any; ``blink``: closure in [0, 1]."""
    open_ = np.flatnonzero(blink <= np.nanmin(blink) + CLOSURE_MARGIN)
    return int(open_[np.abs(open_ - len(blink) // 2).argmin()])


def _liveliest(opening: Float[np.ndarray, " F"], length: int) -> slice:
    """The ``length`` neighbouring frames over which the mouth opens widest."""
    length = min(length, len(opening))
    windows = np.lib.stride_tricks.sliding_window_view(np.nan_to_num(opening), length)
    begin = int((windows.max(-1) - windows.min(-1)).argmax())
    return slice(begin, begin + length)
