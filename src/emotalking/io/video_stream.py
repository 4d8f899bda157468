"""The video stream of a file: which one, its good frames with their times, and without fields."""

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av.error
import av.logging
from av import Packet, VideoFrame, VideoStream
from av.container import InputContainer
from av.filter import Graph
from av.stream import Disposition

from emotalking.errors import InputError
from emotalking.io.containers import open_media

_IMAGE_FORMATS = ("tty", "image2", "png_pipe", "jpeg_pipe", "gif")
"""Image formats that FFmpeg reads as video."""
_IMAGE_BRANDS = ("heic", "heix", "mif1", "avif")
"""Those of HEIF (ISO 23008-12), which has the container of MP4."""
_CROP = re.compile(r"Frame Cropping: (\d+)/(\d+)/(\d+)/(\d+)")
_DOLBY_VISION = re.compile(r"DOVI configuration record: .*\bprofile: (\d+),.*\bcompatibility id: 0\b")
"""With this compatibility, the stored colours are none that a player without Dolby Vision can show."""
_STILLS = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
"""Video streams that are cover images, or thumbnails of chapters."""


@dataclass
class Damage:
    """Frames that could not be decoded; filled while :func:`decode_frames` runs."""

    lost: list[float] = field(default_factory=list)
    """Time stamps [s] of the frames that are missing or damaged."""
    smeared_until: list[float] = field(default_factory=list)
    """For each of them the next keyframe [s]: until there, frames may carry traces of the damage."""
    promised_s: float | None = None
    """Length that the header declares, where it is clearly more than there is: the file was cut short."""


def open_video(path: Path) -> tuple[InputContainer, VideoStream]:
    """Container, to be closed, and the video stream that players show."""
    if not path.exists():
        raise InputError(f"{path}: there is no such file.")
    if not path.is_file():
        raise InputError(f"{path} is a folder or a device: give a clip such as an .mp4 file.")
    try:
        container = open_media(path)
    except (av.error.FFmpegError, OSError) as error:
        with path.open("rb") as file:
            begins_as_mp4 = b"ftyp" in file.read(16)
        if begins_as_mp4:
            raise InputError(
                f"{path} is cut short or damaged after 0 frames: its index is missing, as in an unfinished copy; "
                "copy or export it again."
            ) from error
        raise InputError(f"{path} is not a video that can be read; give a clip such as an .mp4 file.") from error
    try:
        stream = _chosen(path, container)
        if found := _DOLBY_VISION.search(_side_data(container, stream)):
            raise InputError(
                f"{path}: its colours are Dolby Vision's own (profile {found[1]}), which cannot be converted: "
                "export it as HDR10, HLG or SDR."
            )
        return container, stream
    except InputError:
        container.close()
        raise


def container_crop(container: InputContainer, stream: VideoStream) -> tuple[int, int, int, int]:
    """Pixels that the container hides of the stored frames: at the top, bottom, left and right."""
    found = _CROP.search(_side_data(container, stream))
    if found is None:
        return (0, 0, 0, 0)
    left, right, top, bottom = (int(number) for number in found.groups())
    return top, bottom, left, right


def _side_data(container: InputContainer, stream: VideoStream) -> str:
    """What FFmpeg prints about a stream, side data included, which PyAV does not hand out; it prints to messages."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    try:
        text = str(cast("Any", container).dumps_format())  # which PyAV's stubs leave out
    finally:
        av.logging.set_level(level)
    parts = re.split(r"^  Stream #0:(\d+)", text, flags=re.MULTILINE)
    return next((part for index, part in zip(parts[1::2], parts[2::2], strict=True) if int(index) == stream.index), "")


def films(container: InputContainer) -> list[VideoStream]:
    """Video streams that are no cover images."""
    return [stream for stream in container.streams.video if not stream.disposition & _STILLS]


def _chosen(path: Path, container: InputContainer) -> VideoStream:
    """The stream that players show: the first one marked as default, of those that can be decoded."""
    found = films(container)
    if not found:
        raise InputError(f"{path} has no video stream; give a clip that shows the person.")
    if container.format.name in _IMAGE_FORMATS or container.metadata.get("major_brand") in _IMAGE_BRANDS:
        raise InputError(f"{path} is not a video that can be read; give a clip such as an .mp4 file.")
    known = [stream for stream in found if stream.codec_context is not None]
    if not known:
        raise InputError(f"{path}: its video has a format that cannot be decoded; export it as H.264 (.mp4).")
    # An image that is not marked as a cover has one frame; the number is 0 where the container does not tell.
    known = [stream for stream in known if stream.frames != 1] or known
    stream = next((stream for stream in known if stream.disposition & Disposition.default), known[0])
    stream.thread_type = "AUTO"
    return stream


def deinterlaced(
    frames: Iterator[tuple[float, VideoFrame]],
) -> Iterator[tuple[float, VideoFrame, VideoFrame]]:
    """Time, frame as decoded, and frame without fields: from the first interlaced one on through FFmpeg's bwdif.

    The filter leaves frames alone that are not marked as interlaced. It needs the next frame, so that each comes one
    later; the first of a new size begins anew.
    """
    graph: Graph | None = None
    kind: object = None
    waiting: deque[tuple[float, VideoFrame]] = deque()

    def drain() -> Iterator[tuple[float, VideoFrame, VideoFrame]]:
        while waiting and graph is not None:
            try:
                out = graph.vpull()
            except (BlockingIOError, EOFError):
                return
            yield (*waiting.popleft(), out)

    for time, frame in frames:
        if graph is not None and kind != (frame.width, frame.height, frame.format.name):
            graph.vpush(None)
            yield from drain()
            graph = None
        if graph is None:
            if not frame.interlaced_frame:
                yield time, frame, frame
                continue
            kind = (frame.width, frame.height, frame.format.name)
            graph = _deinterlacer(frame)
        waiting.append((time, frame))
        graph.vpush(frame)
        yield from drain()
    if graph is not None:
        graph.vpush(None)
        yield from drain()


def _deinterlacer(frame: VideoFrame) -> Graph:
    """Graph for frames like this one; one frame in, one out."""
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 1000)
    )
    fields = graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
    sink = graph.add("buffersink")
    source.link_to(fields)
    fields.link_to(sink)
    graph.configure()
    return graph


def decoded(container: InputContainer, stream: VideoStream, damage: Damage) -> Iterator[tuple[float, VideoFrame]]:
    """Good frames with their times; frames lost between the first and the last of them go into ``damage``."""
    clock = stream.time_base
    assert clock is not None  # FFmpeg gives every stream that it reads one
    step, time = float(1 / rate_of(stream)), None
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


def rate_of(stream: VideoStream) -> Fraction:
    """Declared frame rate."""
    return Fraction(stream.average_rate or stream.guessed_rate or 25)


def declared_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    """Seconds of video that the header declares."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / 1e6
