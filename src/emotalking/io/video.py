"""Video reader: any container to RGB frames, one in memory at a time; damage is skipped and counted."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import av.error
import av.stream
import cv2
import numpy as np
from av import Packet, VideoFrame, VideoStream
from av.container import InputContainer
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8

from emotalking.errors import UserError

SHORTEST_S = 2.0
"""A shorter clip cannot be learned from."""
_EXACT_LENGTH = ("mov,mp4", "matroska", "avi")
"""Containers whose header declares the true length; the others estimate it."""
_IMAGE_FORMATS = ("tty", "image2", "png_pipe", "jpeg_pipe", "gif")
"""Image formats that FFmpeg reads as video."""
_OWN = threading.local()
"""The pixel format converter of each thread."""


@dataclass(frozen=True)
class ClipInfo:
    """Header of a clip."""

    path: Path
    width: int
    """Pixels, as shown (after rotation)."""
    height: int
    fps: Fraction
    seconds: float | None
    """None where the container does not declare it."""
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


@dataclass
class Damage:
    """Frames that could not be decoded; filled while :func:`decode_frames` runs."""

    lost: list[float] = field(default_factory=list)
    """Time stamps [s] of the frames that are missing or damaged."""
    smeared_until: list[float] = field(default_factory=list)
    """For each of them the next keyframe [s]: until there, frames may carry traces of the damage."""
    promised_s: float | None = None
    """Length that the header declares, where it is clearly more than there is: the file was cut short."""


def probe(path: str | Path) -> ClipInfo:
    """Read the header of a clip and its first frame.

    Raises:
        UserError: if the file is missing, no video, or cut short so that nothing can be read.
    """
    path = Path(path)
    with _opened(path) as (container, stream):
        frame = next((frame for _, frame in _decoded(path, container, stream, Damage())), None)
        if frame is None:
            raise UserError(f"{path} is cut short or damaged after 0 frames; copy or export it again.")
        return _info(path, container, stream, frame)


def _info(path: Path, container: InputContainer, stream: VideoStream, frame: VideoFrame) -> ClipInfo:
    """Header of an opened clip; ``frame`` is its first one, which knows how it is turned."""
    height, width = (frame.height, frame.width)[:: -1 if _quarter_turns(frame) % 2 else 1]
    return ClipInfo(path, width, height, _rate(stream), _declared(container, stream), bool(container.streams.audio))


def decode_frames(
    path: str | Path, damage: Damage | None = None, on_header: Callable[[ClipInfo], None] | None = None
) -> Iterator[tuple[float, VideoFrame]]:
    """Time stamp [s, the clip's own clock, never running backwards] and PyAV frame of every good frame, in order.

    A damaged packet in the middle is skipped, a file that was cut short ends early; both are noted in ``damage``.
    A frame without a time stamp follows its predecessor at the declared rate.

    Args:
        path: the clip.
        damage: filled until the last frame.
        on_header: called before the first frame with what :func:`probe` returns; it may raise to refuse the clip.

    Raises:
        UserError: no video, or not one frame can be decoded.
    """
    path, damage = Path(path), Damage() if damage is None else damage
    with _opened(path) as (container, stream):
        time, first = 0.0, None
        for time, frame in _decoded(path, container, stream, damage):
            if first is None:
                first = time
                if on_header is not None:
                    on_header(_info(path, container, stream, frame))
            yield time, frame
        if first is None:
            raise UserError(f"{path} is cut short or damaged after 0 frames; copy or export it again.")
        declared = _declared(container, stream)
        begin = first
        if stream.start_time is not None and stream.time_base is not None:
            begin = min(first, float(stream.start_time * stream.time_base))
        seconds = time + float(1 / _rate(stream)) - begin
        if declared is not None and container.format.name.startswith(_EXACT_LENGTH) and seconds < declared - 0.5:
            damage.promised_s = declared


def pixels(frame: VideoFrame, kind: str) -> UInt8[np.ndarray, "H W *C"]:
    """A PyAV frame in the pixel format ``kind`` (`rgb24`, `gray`), as it is stored.

    ``frame.to_ndarray`` gives the same, but makes a converter with a thread for each CPU core at every frame, which
    takes 4 to 13 ms where the conversion takes 0.1 to 0.6 (450 to 590 pixels, two cores).
    """
    if not hasattr(_OWN, "converter"):
        _OWN.converter = VideoReformatter()
    return _OWN.converter.reformat(frame, format=kind, threads=1).to_ndarray()


def to_rgb(frame: VideoFrame, framing: Framing | None = None) -> UInt8[np.ndarray, "H W 3"]:
    """A frame of :func:`decode_frames` as RGB, upright (the rotation that a phone noted is undone), framed."""
    image = np.ascontiguousarray(np.rot90(pixels(frame, "rgb24"), _quarter_turns(frame)))
    return image if framing is None else framing.apply(image)


def read_frames(
    path: str | Path, fps: Fraction | int = 25, framing: Framing | None = None, limit_seconds: float | int | None = None
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """Frames at exactly ``fps`` in one pass: at k / fps after the first frame the one whose time stamp is nearest.

    This trusts the clip's time stamps; ``preprocess.timeline`` also finds repeated frames and the true rate.

    Args:
        path: the clip.
        fps: frame rate of the result.
        framing: square to cut out; None: the whole frame.
        limit_seconds: stop after this much; None: read all.

    Raises:
        UserError: no video, or not one frame can be decoded.
    """
    rate = Fraction(fps)
    limit = None if limit_seconds is None else int(limit_seconds * rate)
    yielded = decoded = 0
    begin, last = None, None
    for time, frame in decode_frames(path):
        begin = time if begin is None else begin
        decoded += 1
        if last is not None:
            # A frame covers all instants up to the middle between it and the next one.
            due = int(((last[0] + time) / 2 - begin) * rate + 1e-9) + 1
            yield from _repeat(last[1], framing, yielded, due, limit)
            yielded = max(yielded, due)
            if limit is not None and yielded >= limit:
                return
        last = (time, frame)
    if last is not None and begin is not None:
        step = (last[0] - begin) / (decoded - 1) if decoded > 1 else float(1 / rate)
        due = -int(-((last[0] + step - begin) * rate - 1e-6) // 1)
        yield from _repeat(last[1], framing, yielded, due, limit)


def _repeat(
    frame: VideoFrame, framing: Framing | None, yielded: int, due: int, limit: int | None
) -> Iterator[np.ndarray]:
    """The RGB image once for every frame number from ``yielded`` to ``due``."""
    count = (due if limit is None else min(due, limit)) - yielded
    if count > 0:
        image = to_rgb(frame, framing)
        for _ in range(count):
            yield image


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Container and video stream."""
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
        video_streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not video_streams:
            raise UserError(f"{path} has no video stream; give a clip that shows the person.")
        if container.format.name in _IMAGE_FORMATS:
            raise UserError(f"{path} is not a video that can be read; give a clip such as an .mp4 file.")
        video_streams[0].thread_type = "AUTO"
        yield container, video_streams[0]


def _decoded(
    path: Path, container: InputContainer, stream: VideoStream, damage: Damage
) -> Iterator[tuple[float, VideoFrame]]:
    """Good frames with their times; frames lost between the first and the last of them go into ``damage``."""
    clock = stream.time_base
    assert clock is not None  # FFmpeg gives every stream that it reads one
    step, time = float(1 / _rate(stream)), None
    waiting: dict[int, bool] = {}  # stamps of packets whose frame is pending, and whether it is a keyframe
    keys: list[int] = []
    lost: list[int] = []
    failed = 0
    for packet in _packets(container, stream):
        if packet.pts is not None and packet.size:
            waiting[packet.pts] = packet.is_keyframe
            keys += [packet.pts] if packet.is_keyframe else []
        try:
            frames = packet.decode()
        except (av.error.FFmpegError, OSError):
            failed += 1
            continue
        for frame in frames:
            if frame.is_corrupt:
                failed += 1
                continue
            if frame.pts is None:
                time = 0.0 if time is None else time + step
            else:
                stamp = float(frame.pts * clock)
                late = sorted(pts for pts in waiting if pts < frame.pts)
                # Packets that an edit list hides have no frame either: only after an error are they damage. One
                # error at the beginning may cost all frames up to the next keyframe.
                lost += late if failed else []
                failed = 0 if time is None else max(failed - len(late), 0)
                for pts in (*late, frame.pts):
                    waiting.pop(pts, None)
                time = stamp if time is None else max(stamp, time)
            yield time, frame
    for pts in lost:
        damage.lost.append(float(pts * clock))
        damage.smeared_until.append(float(min((key for key in keys if key > pts), default=pts) * clock))


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet]:
    """Packets up to the end of the file, or to where it cannot be read any further."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.error.FFmpegError, OSError):
            return
        yield packet


def _rate(stream: VideoStream) -> Fraction:
    """Declared frame rate."""
    return Fraction(stream.average_rate or stream.guessed_rate or 25)


def _declared(container: InputContainer, stream: VideoStream) -> float | None:
    """Seconds of video that the header declares."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / 1e6


def _quarter_turns(frame: VideoFrame) -> int:
    """Counter-clockwise quarter turns that make a frame upright."""
    return round((getattr(frame, "rotation", 0) or 0) / 90) % 4
