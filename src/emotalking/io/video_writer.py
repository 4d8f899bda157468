"""Video writer: frames to a video file with sound, or to a folder of PNG files; streaming and atomic."""

from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import av.error
import numpy as np
from av import AudioStream, VideoStream
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from jaxtyping import Float, UInt8

from emotalking.errors import InputError
from emotalking.io.containers import create_media
from emotalking.io.files import Finish, replacing
from emotalking.io.images import write_image
from emotalking.io.kinds import KINDS

AUDIO_RATE = 48000
"""Hz of the sound in video files."""

_BT709 = 1
"""Value of BT.709 in the colour fields of H.264 streams."""


@dataclass(frozen=True)
class _Codec:
    """Codecs and options of one kind of file."""

    video: str
    pixels: str
    audio: str
    options: dict[str, str]
    alpha: bool


_CODECS = {
    (".mp4", False): _Codec("libx264", "yuv420p", "aac", {"crf": "16", "preset": "medium"}, False),
    (".mov", False): _Codec("libx264", "yuv420p", "aac", {"crf": "16", "preset": "medium"}, False),
    (".mkv", False): _Codec("libx264", "yuv420p", "aac", {"crf": "16", "preset": "medium"}, False),
    (".avi", False): _Codec("ffv1", "bgr0", "pcm_s16le", {}, False),
    (".webm", False): _Codec("libvpx-vp9", "yuv420p", "libopus", {"crf": "20", "b": "0", "cpu-used": "4"}, False),
    (".mov", True): _Codec("prores_ks", "yuva444p10le", "aac", {"profile": "4444"}, True),
    (".webm", True): _Codec("libvpx-vp9", "yuva420p", "libopus", {"crf": "20", "b": "0", "cpu-used": "4"}, True),
}


def codec_for(path: Path, alpha: bool) -> _Codec:
    """The codec for the ending of ``path``.

    Raises:
        InputError: an unknown ending, or one that cannot hold transparency.
    """
    codec = _CODECS.get((path.suffix.lower(), alpha))
    if codec is None:
        endings = ", ".join(sorted(suffix for suffix, with_alpha in _CODECS if with_alpha == alpha))
        what = "transparent video" if alpha else "video"
        raise InputError(
            f"{path} is not a name for {what}: end it with one of {endings}, or write PNG files to a folder."
        )
    return codec


class VideoWriter:
    """Writer of frames of one size to a video file; the file appears under its name when it is complete.

    Use as a context manager: on an exception no new file remains and an existing one is unchanged.

    Args:
        path: .mp4, .mov, .mkv (H.264, crf 16, yuv420p), .webm (VP9) or .avi (FFV1 and PCM, without loss); with
            transparency .mov (ProRes 4444), .webm.
        width: pixels; odd sizes are padded by repeating the last column.
        height: pixels, likewise.
        fps: exact frame rate [Hz].
        sound: pieces of float32 mono at 48 kHz, read as far as the frames go; None for a silent video.
        alpha: frames are RGBA with straight alpha.
        finish: last step, such as a signature (:func:`~emotalking.io.files.replacing`).

    Raises:
        InputError: the ending is unknown, or the place cannot be written to.
    """

    def __init__(
        self,
        path: str | Path,
        width: int,
        height: int,
        fps: Fraction,
        sound: Iterable[Float[np.ndarray, " n"]] | None = None,
        *,
        alpha: bool = False,
        finish: Finish | None = None,
    ) -> None:
        self.path = Path(path)
        self.frames = 0
        self._codec = codec_for(self.path, alpha)
        self._size = (height, width)
        self._fps = fps
        self._sound = iter(sound) if sound is not None else None
        self._converter = VideoReformatter()  # a frame's own converter would be created each time, with threads
        with ExitStack() as stack:
            scratch = stack.enter_context(replacing(self.path, finish))
            self._container = create_media(scratch, _muxer(self.path), _muxer_options(self.path))
            self._video = self._video_stream(width + width % 2, height + height % 2)
            self._audio = self._audio_stream() if sound is not None else None
            self._file = stack.pop_all()
        self._pending = np.zeros(0, np.float32)
        self._samples = 0

    def _video_stream(self, width: int, height: int) -> VideoStream:
        stream = self._container.add_stream(self._codec.video, rate=self._fps, options=dict(self._codec.options))
        assert isinstance(stream, VideoStream)
        stream.width = width
        stream.height = height
        stream.pix_fmt = self._codec.pixels
        stream.time_base = stream.codec_context.time_base = 1 / self._fps
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = ColorRange.MPEG
        return stream

    def _audio_stream(self) -> AudioStream:
        stream = self._container.add_stream(self._codec.audio, rate=AUDIO_RATE, layout="mono")
        assert isinstance(stream, AudioStream)
        stream.bit_rate = 128_000
        stream.time_base = Fraction(1, AUDIO_RATE)
        return stream

    def write(self, image: UInt8[np.ndarray, "H W channels"]) -> None:
        """Append one frame, and the sound that belongs under it.

        Args:
            image: RGB, or RGBA if the writer was made with ``alpha``.
        """
        channels = 4 if self._codec.alpha else 3
        if image.shape != (*self._size, channels):
            raise ValueError(f"image: expected shape {(*self._size, channels)}, got {image.shape}")
        pad = [(0, size % 2) for size in self._size]
        padded = np.pad(image, (*pad, (0, 0)), mode="edge") if any(high for _, high in pad) else image
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), format="rgba" if channels == 4 else "rgb24")
        frame = self._converter.reformat(
            frame,
            format=self._codec.pixels,
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )
        frame.pts, frame.time_base = self.frames, 1 / self._fps
        self._container.mux(self._video.encode(frame))
        self.frames += 1
        if self._audio is not None:
            self._write_sound(int(self.frames / self._fps * AUDIO_RATE))

    def _write_sound(self, until: int, last: bool = False) -> None:
        """Encode the sound up to sample ``until``."""
        assert self._sound is not None and self._audio is not None
        while self._samples + len(self._pending) < until:
            chunk = next(self._sound, None)
            if chunk is None:
                break
            self._pending = np.concatenate([self._pending, chunk])
        size = self._audio.codec_context.frame_size or 1024
        ready = min(len(self._pending), until - self._samples)
        ready = ready if last else ready // size * size
        for start in range(0, ready, size):
            piece = self._pending[start : min(start + size, ready)]
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece[None]), format="fltp", layout="mono")
            frame.sample_rate, frame.time_base = AUDIO_RATE, Fraction(1, AUDIO_RATE)
            frame.pts = self._samples + start
            self._container.mux(self._audio.encode(frame))
        self._pending = self._pending[ready:]
        self._samples += ready

    def close(self) -> None:
        """Finish the file and rename it to its final name.

        Raises:
            CannotWriteError: the disk is full, and no file is made.
        """
        with self._file:
            if self._audio is not None:
                self._write_sound(int(self.frames / self._fps * AUDIO_RATE), last=True)
                self._container.mux(self._audio.encode(None))
            self._container.mux(self._video.encode(None))
            self._container.close()

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
            return
        with suppress(av.error.FFmpegError, OSError):  # of a full disk, which error may be about already
            self._container.close()
        self._file.__exit__(kind, error, trace)


def _muxer(path: Path) -> str:
    return {".mkv": "matroska"}.get(path.suffix.lower(), path.suffix.lower()[1:])


def _muxer_options(path: Path) -> dict[str, str]:
    """The index in front, so that a player starts before the whole file is there."""
    return {"movflags": "faststart"} if path.suffix.lower() in (".mp4", ".mov") else {}


class FrameFolder:
    """Writes frames as ``000000.png``, ``000001.png``, ... (RGB or straight RGBA); each file appears when complete.

    Args:
        path: the folder.
        overwrite: it may hold frames of an earlier run.
        finish: last step of each file.

    Raises:
        InputError: the folder holds something already, or cannot be made.
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False, finish: Finish | None = None) -> None:
        self.path = Path(path)
        self.frames = 0
        self._finish = finish
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            present = sorted(self.path.iterdir())
        except OSError as error:
            raise InputError(f"the folder {self.path} cannot be made ({error.strerror}): choose another.") from error
        if present and not overwrite:
            raise InputError(f"the folder {self.path} is not empty: choose another, or allow overwriting.")
        if (foreign := KINDS["frames"].foreign(self.path)) is not None:
            raise InputError(
                f"the folder {self.path} holds {foreign}, which is no frame of an earlier run: choose another."
            )
        for old in present:
            # Frames of an earlier, longer run must not remain after the new ones; other files are kept.
            if KINDS["frames"].owns(old.name):
                old.unlink()

    def write(self, image: UInt8[np.ndarray, "H W channels"]) -> None:
        """Append one frame."""
        write_image(self.path / f"{self.frames:06d}.png", image, quality=3, finish=self._finish)
        self.frames += 1
