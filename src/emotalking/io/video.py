"""Video reader: any container to RGB frames as a player shows them, one in memory at a time.

Damage is skipped and counted; what is changed so that frames look right (:class:`Conversions`) is noted.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import repeat
from pathlib import Path

import numpy as np
from av import VideoFrame
from jaxtyping import UInt8

from emotalking.errors import InputError
from emotalking.io.display import ShownFrame, orientation_of, shown_size, to_rgb
from emotalking.io.video_stream import (
    Damage,
    container_crop,
    declared_seconds,
    decoded,
    deinterlaced,
    films,
    open_video,
    rate_of,
)

SHORTEST_S = 2.0
"""A shorter clip cannot be learned from."""
_EXACT_LENGTH = ("mov,mp4", "matroska", "avi")
"""Containers whose header declares the true length; the others estimate it."""


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


@dataclass
class Conversions:
    """Differences between frames as stored and as shown; filled while :func:`decode_frames` runs."""

    deinterlaced: int = 0
    """Frames that were stored as two fields."""
    tone_mapped: str = ""
    """"HLG" or "PQ": brighter and wider colours than those of BT.709, which all frames have now; "SDR": wider only."""
    aspect: float = 1.0
    """Width over height of the stored pixels, of the first frame."""
    resized: list[float] = field(default_factory=list)
    """Times [s] from which the stored frames have another size: scaled to that of the others."""
    reshaped: list[float] = field(default_factory=list)
    """Those of ``resized`` from which the shape differs: borders are added, and the image is another one."""
    video_tracks: int = 1
    """Films in the file, of which one is read."""
    crop: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Pixels of the stored frames that the container hides at the top, bottom, left and right; they are kept."""


@dataclass(frozen=True)
class View:
    """Choices that frames of one clip have in common wherever they are read."""

    size: tuple[int, int] | None = None
    """Width and height of all frames, pixels; None: those of the first frame, upright and in square pixels."""
    turn: int = 0
    """Degrees clockwise, a multiple of 90, by which frames are turned in addition to what the file notes."""


AS_NOTED = View()
"""As the file notes, in the size of the first frame."""


class OpenClip:
    """An opened clip: its frames as they are shown, from any place on.

    Args:
        path: the clip.
        view: size and turn of the frames.

    Raises:
        InputError: no video.
    """

    def __init__(self, path: str | Path, view: View = AS_NOTED) -> None:
        self.path = Path(path)
        self.view = view
        self.damage = Damage()
        self.conversions = Conversions()
        self._container, self._stream = open_video(self.path)
        self._aspect = self._stream.codec_context.sample_aspect_ratio
        self._size = view.size
        self.conversions.video_tracks = len(films(self._container))
        self.conversions.crop = container_crop(self._container, self._stream)

    def __enter__(self) -> "OpenClip":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def seek(self, pts: int) -> None:
        """Go to the keyframe at or before a time stamp; :meth:`frames` then begins there."""
        self._container.seek(pts, stream=self._stream, backward=True)

    def info(self, frame: ShownFrame) -> ClipInfo:
        """Header; ``frame`` is the first one, which knows how it is shown."""
        width, height = frame.size
        container, stream = self._container, self._stream
        sound = bool(container.streams.audio)
        return ClipInfo(self.path, width, height, rate_of(stream), declared_seconds(container, stream), sound)

    def frames(self) -> Iterator[tuple[float, ShownFrame]]:
        """Time stamp [s, the clip's own clock, never running backwards] and frame, as :func:`decode_frames`."""
        before: tuple[int, int] | None = None
        for time, stored, raw in deinterlaced(decoded(self._container, self._stream, self.damage)):
            frame = self._shown(stored, raw)
            if before not in (None, frame.own_size):
                self.conversions.resized.append(time)
                width, height = frame.own_size
                if abs(width * before[1] - height * before[0]) > max(width, height):
                    self.conversions.reshaped.append(time)
            before = frame.own_size
            yield time, frame

    def _shown(self, stored: VideoFrame, raw: VideoFrame) -> ShownFrame:
        """How a frame is shown: ``stored`` as it was decoded, ``raw`` without fields."""
        # The container's pixels count, as long as the stream's own do not change.
        own = self._stream.codec_context.sample_aspect_ratio
        aspect = (self._stream.sample_aspect_ratio or own) if own == self._aspect else own
        aspect = aspect or Fraction(1)
        orientation = orientation_of(stored).turned(self.view.turn // 90)
        if self._size is None:
            self._size = shown_size(raw, orientation, aspect)
        frame = ShownFrame(raw, stored.pts, orientation, aspect, self._size)
        notes = self.conversions
        notes.deinterlaced += raw is not stored and stored.interlaced_frame
        notes.tone_mapped = notes.tone_mapped or (frame.colour.transfer if frame.colour else "")
        notes.aspect = float(aspect) if notes.aspect == 1.0 else notes.aspect
        return frame

    def note_end(self, first: float, last: float) -> None:
        """Note in ``damage`` if the header promises clearly more than the frames from ``first`` to ``last`` [s]."""
        stream, declared = self._stream, declared_seconds(self._container, self._stream)
        if stream.start_time is not None and stream.time_base is not None:
            first = min(first, float(stream.start_time * stream.time_base))
        seconds = last + float(1 / rate_of(stream)) - first
        exact = self._container.format.name.startswith(_EXACT_LENGTH)
        if declared is not None and exact and seconds < declared - 0.5:
            self.damage.promised_s = declared


def probe(path: str | Path) -> ClipInfo:
    """Read the header of a clip and its first frame.

    Raises:
        InputError: if the file is missing, no video, or cut short so that nothing can be read.
    """
    with OpenClip(path) as clip:
        frame = next((frame for _, frame in clip.frames()), None)
        if frame is None:
            raise _nothing(clip.path)
        return clip.info(frame)


def decode_frames(
    path: str | Path,
    damage: Damage | None = None,
    on_header: Callable[[ClipInfo], None] | None = None,
    *,
    view: View = AS_NOTED,
    conversions: Conversions | None = None,
) -> Iterator[tuple[float, ShownFrame]]:
    """Time stamp [s, the clip's own clock, never running backwards] and every good frame, in order.

    A damaged packet in the middle is skipped, a file that was cut short ends early; both are noted in ``damage``.
    A frame without a time stamp follows its predecessor at the declared rate. :func:`~.display.to_rgb` makes an image
    of a frame.

    Args:
        path: the clip.
        damage: filled until the last frame.
        on_header: called before the first frame with what :func:`probe` returns; it may raise to refuse the clip.
        view: size and turn of the frames.
        conversions: filled until the last frame.

    Raises:
        InputError: no video, or not one frame can be decoded.
    """
    with OpenClip(path, view) as clip:
        clip.damage = clip.damage if damage is None else damage
        if conversions is not None:
            conversions.video_tracks, conversions.crop = clip.conversions.video_tracks, clip.conversions.crop
            clip.conversions = conversions
        time, first = 0.0, None
        for time, frame in clip.frames():
            if first is None:
                first = time
                if on_header is not None:
                    on_header(clip.info(frame))
            yield time, frame
        if first is None:
            raise _nothing(clip.path)
        clip.note_end(first, time)


def _nothing(path: Path) -> InputError:
    return InputError(f"{path} is cut short or damaged after 0 frames; copy or export it again.")


def read_frames(path: str | Path, fps: Fraction | int = 25) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """Frames at exactly ``fps`` in one pass: at k / fps after the first frame the one whose time stamp is nearest.

    This trusts the clip's time stamps; ``preprocess.timeline`` also finds repeated frames and the true rate.

    Args:
        path: the clip.
        fps: frame rate of the result.

    Raises:
        InputError: no video, or not one frame can be decoded.
    """
    rate = Fraction(fps)
    yielded = decoded = 0
    begin, last = None, None
    for time, frame in decode_frames(path):
        begin = time if begin is None else begin
        decoded += 1
        if last is not None:
            # A frame covers all instants up to the middle between it and the next one.
            due = int(((last[0] + time) / 2 - begin) * rate + 1e-9) + 1
            yield from _repeated(last[1], due - yielded)
            yielded = max(yielded, due)
        last = (time, frame)
    if last is not None and begin is not None:
        step = (last[0] - begin) / (decoded - 1) if decoded > 1 else float(1 / rate)
        due = -int(-((last[0] + step - begin) * rate - 1e-6) // 1)
        yield from _repeated(last[1], due - yielded)


def _repeated(frame: ShownFrame, count: int) -> Iterator[np.ndarray]:
    """The RGB image ``count`` times."""
    return repeat(to_rgb(frame), count) if count > 0 else iter(())
