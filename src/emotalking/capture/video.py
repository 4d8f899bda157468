"""Video in: any container to square RGB frames at exactly the wanted rate, one frame in memory at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import av.stream
import cv2
import numpy as np
from jaxtyping import UInt8

from emotalking.errors import UserError

SHORTEST_S = 2.0
"""A shorter clip cannot be learned from."""
_EXACT_LENGTH = ("mov,mp4", "matroska", "avi")
"""Containers whose header declares the true length; the others estimate it."""


@dataclass(frozen=True)
class ClipInfo:
    """What the header of a clip says."""

    path: Path
    width: int
    """Pixels, as shown (after rotation)."""
    height: int
    fps: Fraction
    seconds: float | None
    """None where the container does not tell."""
    has_audio: bool


@dataclass(frozen=True)
class Framing:
    """A square cut out of every frame, and the size that it is shrunk to."""

    left: int
    top: int
    side: int
    size: int

    def apply(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "S S 3"]:
        """The square of one frame."""
        cut = image[self.top : self.top + self.side, self.left : self.left + self.side]
        if self.side == self.size:
            return np.ascontiguousarray(cut)
        return np.asarray(cv2.resize(cut, (self.size, self.size), interpolation=cv2.INTER_AREA), np.uint8)


def probe(path: str | Path) -> ClipInfo:
    """Read the header of a clip and its first frame.

    Raises:
        UserError: if the file is missing, no video, or cut short so that nothing can be read.
    """
    path = Path(path)
    with _opened(path) as (container, stream):
        frame = next(iter(_frames(path, container, stream)), None)
        if frame is None:
            raise UserError(f"{path} is cut short or damaged after 0 frames; copy or export it again.")
        height, width = (frame.height, frame.width)[:: -1 if _quarter_turns(frame) % 2 else 1]
        return ClipInfo(path, width, height, _rate(stream), _declared(container, stream), bool(container.streams.audio))


def read_frames(
    path: str | Path, fps: Fraction | int = 25, framing: Framing | None = None, limit_seconds: float | int | None = None
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """Frames of a clip at exactly ``fps``: at k / fps the frame whose time stamp is nearest, RGB uint8.

    Times count from the first frame, in exact fractions: a clip of any rate, steady or not, keeps its speed. Rotation
    noted by a phone is undone.

    Args:
        path: the clip.
        fps: frames a second of the result.
        framing: square to cut out; None: the whole frame.
        limit_seconds: stop after this much; None: read all.

    Raises:
        UserError: no video, or cut short or damaged (noticed where the good frames end).
    """
    path, rate = Path(path), Fraction(fps)
    limit = None if limit_seconds is None else int(limit_seconds * rate)
    count = 0
    for frame, due in _timed(path, rate):
        image: np.ndarray | None = None
        for _ in range(due):
            if limit is not None and count >= limit:
                return
            if image is None:
                image = np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), _quarter_turns(frame)))
                image = image if framing is None else framing.apply(image)
            yield image
            count += 1


def _timed(path: Path, rate: Fraction) -> Iterator[tuple[Any, int]]:
    """Every decoded frame and how many frames of the result it stands for."""
    with _opened(path) as (container, stream):
        step = 1 / _rate(stream)
        begin: Fraction | None = None
        previous, time = None, Fraction(0)
        made = decoded = 0
        for frame in _frames(path, container, stream):
            now = time + step if decoded else Fraction(0)
            if frame.pts is not None and frame.time_base is not None:
                stamp = frame.pts * Fraction(frame.time_base)
                begin = stamp if begin is None else begin
                now = max(stamp - begin, time)
            if previous is not None:
                due = max(int((time + now) / 2 * rate) + 1 - made, 0)
                made += due
                yield previous, due
            previous, time = frame, now
            decoded += 1
        if previous is None:
            raise UserError(f"{path} is cut short or damaged after 0 frames; copy or export it again.")
        end = time + step
        due = max(-int(-end * rate // 1) - made, 0)  # ceiling: frames whose time lies before the end
        yield previous, due
        declared = _declared(container, stream)
        if declared is not None and container.format.name.startswith(_EXACT_LENGTH) and end < declared - 0.5:
            raise UserError(
                f"{path} is cut short or damaged after {decoded} frames: it promises {declared:.1f} s and ends after "
                f"{float(end):.1f} s; copy or export it again."
            )


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Container and picture stream."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such file.")
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError) as error:
        with path.open("rb") as file:
            begins_as_mp4 = b"ftyp" in file.read(16)
        if begins_as_mp4:
            raise UserError(
                f"{path} is cut short or damaged after 0 frames: its index is missing, as in an unfinished copy; "
                "copy or export it again."
            ) from error
        raise UserError(f"{path} is not a video that can be read; give a clip such as an .mp4 file.") from error
    with container:
        pictures = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not pictures:
            raise UserError(f"{path} has no video stream; give a clip that shows the person.")
        if container.format.name in ("tty", "image2", "png_pipe", "jpeg_pipe", "gif"):
            raise UserError(f"{path} is not a video that can be read; give a clip such as an .mp4 file.")
        pictures[0].thread_type = "AUTO"
        yield container, pictures[0]


def _frames(path: Path, container: Any, stream: Any) -> Iterator[Any]:
    """Decoded frames; a decode error becomes a sentence that says how far it went."""
    count = 0
    try:
        for frame in container.decode(stream):
            yield frame
            count += 1
    except (av.error.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"{path} is cut short or damaged after {count} frames: {reason}; copy or export it again."
        ) from error


def _rate(stream: Any) -> Fraction:
    """Frames a second as declared."""
    return Fraction(stream.average_rate or stream.guessed_rate or 25)


def _declared(container: Any, stream: Any) -> float | None:
    """Seconds of picture that the header promises."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / 1e6


def _quarter_turns(frame: Any) -> int:
    """Counter-clockwise quarter turns that bring a frame upright."""
    return round((getattr(frame, "rotation", 0) or 0) / 90) % 4
