"""Sinks that write a session elsewhere: a live stream (RTMP, SRT, ...), a file, a virtual camera, loudspeakers."""

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from urllib.parse import urlsplit

import av.error
import numpy as np
from av import AudioFrame, AudioResampler, AudioStream, VideoFrame, VideoStream
from av.container import OutputContainer
from av.video.reformatter import Interpolation, VideoReformatter
from jaxtyping import UInt8

from emotalking.errors import InputError, MissingPackageError
from emotalking.io.containers import create_media, create_stream
from emotalking.io.files import Finish, finish_file
from emotalking.io.reading import reason
from emotalking.player.streaming import LiveFrame
from emotalking.serve.microphone import sound_card
from emotalking.serve.sinks import Event

_logger = logging.getLogger(__name__)
_WAITING_IMAGES = 2
"""Frames with images that wait to be written; of older ones the sound alone is kept."""
_WAITING_S = 5.0
"""Sound that waits to be written; of what is older nothing is kept."""
_PROTOCOLS = {"rtmp": "flv", "rtmps": "flv", "srt": "mpegts", "udp": "mpegts", "tcp": "mpegts", "rtsp": "rtsp"}
_SUFFIXES = {".flv": "flv", ".ts": "mpegts", ".mkv": "matroska", ".mp4": "mp4"}
"""Containers of addresses and of files, by FFmpeg's names."""
_PATIENCE_S = 15.0
"""Time without progress after which a connection is given up."""
_END_S = 5.0
"""Time for the last frames when an output is closed."""
_AUDIO_RATE = 48000
_RETRY_S = (1.0, 30.0)
"""First and longest time until the next attempt to connect, which doubles."""
_TICKS = 90_000
"""Ticks per second of the images' time stamps."""
_KEY_FRAME_S = 2
SYNTHETIC = "synthetic: made by emotalking, no recording of a person"
"""Written into the metadata of streams and files."""


def even_rgb(image: UInt8[np.ndarray, "H W channels"]) -> UInt8[np.ndarray, "H2 W2 3"]:
    """RGB of even height and width, as 4:2:0 video needs; RGBA is put on black."""
    if image.shape[2] == 4:
        image = (image[..., :3].astype(np.uint16) * image[..., 3:] // 255).astype(np.uint8)
    odd = [(0, size % 2) for size in image.shape[:2]]
    padded = np.pad(image, (*odd, (0, 0)), mode="edge") if any(more for _, more in odd) else image
    return np.ascontiguousarray(padded)


class Output(ABC):
    """A sink that writes in a thread of its own: the renderer waits for nothing, and what is late loses its images."""

    def __init__(self, name: str) -> None:
        self._waiting: deque[tuple[Fraction, LiveFrame]] = deque()
        self._more = threading.Condition()
        self._time_s = Fraction(0)
        self._generation = 0
        self._closed = False
        self.dropped = 0
        """Images that were not written in time."""
        self.error: str | None = None
        """Why nothing is written any more."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def frame(self, frame: LiveFrame) -> None:
        """See :class:`~emotalking.serve.sinks.Sink`."""
        with self._more:
            if frame.generation != self._generation:
                self._generation = frame.generation
                self._silence()
            self._waiting.append((self._time_s, frame))
            self._time_s += Fraction(len(frame.audio), frame.sample_rate)
            if self.error is not None:
                self._waiting.clear()
            images = [place for place, (_, one) in enumerate(self._waiting) if one.image is not None]
            for place in images[:-_WAITING_IMAGES]:
                self.dropped += 1
                self._waiting[place] = self._waiting[place][0], replace(self._waiting[place][1], image=None)
            while self._waiting and self._time_s - self._waiting[0][0] > _WAITING_S:
                self._waiting.popleft()
            self._more.notify()

    def event(self, event: Event) -> None:
        """See :class:`~emotalking.serve.sinks.Sink`: the session's end is the output's."""
        if event["type"] == "bye":
            with self._more:
                self._closed = True
                self._more.notify()

    def close(self) -> None:
        """Write what is left and end."""
        self.event({"type": "bye"})
        if self._thread.is_alive():
            self._thread.join(_END_S)

    def _silence(self) -> None:
        """Make silence of the sound that waits: it is of a speech that was interrupted."""
        for place, (time_s, frame) in enumerate(self._waiting):
            self._waiting[place] = time_s, replace(frame, audio=np.zeros_like(frame.audio), image=None)

    def _run(self) -> None:
        me = threading.current_thread()
        try:
            while me is self._thread:
                with self._more:
                    self._more.wait_for(lambda: self._waiting or self._closed)
                    if not self._waiting:
                        break
                    time_s, frame = self._waiting.popleft()
                self._write(time_s, frame)
        except Exception as error:
            self.error = str(error)
            _logger.error("%s: nothing is written any more: %s", me.name, error)
        if me is self._thread:
            self._end()

    @abstractmethod
    def _write(self, time_s: Fraction, frame: LiveFrame) -> None:
        """Write a frame at a time of the session's sound; called from the output's thread."""

    def _end(self) -> None:
        """Release what the output holds."""
        return


class _Stream:
    """One connection or file: encoders and what has been written."""

    def __init__(self, container: OutputContainer, size: tuple[int, int], fps: Fraction, bitrate: int) -> None:
        key = "service_name" if container.format.name == "mpegts" else "comment"  # the only one that it has
        container.metadata[key] = SYNTHETIC
        limits = {"maxrate": str(bitrate), "bufsize": str(2 * bitrate)}
        options = {"preset": "veryfast", "tune": "zerolatency", **limits}
        video = container.add_stream("libx264", rate=fps, options=options)
        audio = container.add_stream("aac", rate=_AUDIO_RATE, layout="stereo")
        assert isinstance(video, VideoStream) and isinstance(audio, AudioStream)
        video.width, video.height = size
        video.pix_fmt, video.bit_rate = "yuv420p", bitrate
        video.codec_context.time_base = Fraction(1, _TICKS)
        video.codec_context.gop_size = round(_KEY_FRAME_S * fps)
        audio.bit_rate = 128_000
        container.start_encoding()
        self._container, self._video, self._audio, self._size = container, video, audio, size
        frame_size = audio.codec_context.frame_size or 1024
        self._resampler = AudioResampler("fltp", "stereo", _AUDIO_RATE, frame_size=frame_size)
        self._converter = VideoReformatter()
        self._begin: Fraction | None = None
        self._samples = 0

    def write(self, time_s: Fraction, frame: LiveFrame) -> None:
        """Write a frame; the first one with an image begins the stream."""
        if self._begin is None:
            if frame.image is None:
                return
            self._begin = time_s
        at = time_s - self._begin
        if frame.image is not None:
            image = VideoFrame.from_ndarray(even_rgb(np.asarray(frame.image)), format="rgb24")
            image = self._converter.reformat(image, *self._size, "yuv420p", interpolation=Interpolation.BICUBIC)
            image.pts, image.time_base = round(at * _TICKS), Fraction(1, _TICKS)
            self._container.mux(self._video.encode(image))
        missing = max(0, round(at * frame.sample_rate) - self._samples)
        sound = np.concatenate([np.zeros(missing, np.float32), frame.audio.astype(np.float32)])
        packet = AudioFrame.from_ndarray(sound[None], format="flt", layout="mono")
        packet.sample_rate, packet.time_base = frame.sample_rate, Fraction(1, frame.sample_rate)
        packet.pts = self._samples
        self._samples += len(sound)
        for part in self._resampler.resample(packet):
            self._container.mux(self._audio.encode(part))

    def close(self) -> None:
        """Write what the encoders hold, and the end."""
        if self._begin is not None:
            for part in self._resampler.resample(None):
                self._container.mux(self._audio.encode(part))
            self._container.mux(self._audio.encode(None))
            self._container.mux(self._video.encode(None))
        self._container.close()


class MediaOutput(Output):
    """H.264 and AAC to an address or a file, with time stamps from the count of samples.

    A connection that is lost is made again, and the stream goes on from there. A file is never overwritten.

    Args:
        place: ``rtmp://host/application/key`` (also rtmps, srt, udp, tcp, rtsp), or a file: .flv, .ts, .mkv, .mp4.
        width: pixels of the images; others are scaled.
        height: pixels.
        fps: frame rate for which the encoder is set up.
        bitrate: of the images, bit/s.
        finish: last step of a file, such as a signature (:func:`emotalking.provenance.signing.finisher`).

    Raises:
        InputError: it cannot be connected or made.
    """

    def __init__(
        self,
        place: str | Path,
        width: int,
        height: int,
        fps: Fraction,
        *,
        bitrate: int = 2_500_000,
        finish: Finish | None = None,
    ) -> None:
        super().__init__("media output")
        self._finish = finish
        self._place, self._fps, self._bitrate = str(place), fps, bitrate
        self._size = width + width % 2, height + height % 2
        scheme, suffix = urlsplit(self._place).scheme.lower(), Path(self._place).suffix.lower()
        self._live = scheme in _PROTOCOLS
        if not self._live and suffix not in _SUFFIXES:
            raise InputError(
                f"{self.name} is no place for a stream: give an address such as rtmp://host/live/key, or a file "
                f"({', '.join(_SUFFIXES)})."
            )
        if not self._live and Path(self._place).exists():
            raise InputError(f"{self.name} exists already: choose another name.")
        self._muxer = _PROTOCOLS[scheme] if self._live else _SUFFIXES[suffix]
        self._open_at, self._wait_s = 0.0, _RETRY_S[0]
        self._writing_since: float | None = None
        try:
            self._stream: _Stream | None = self._opened()
        except (av.error.FFmpegError, OSError) as error:
            sentence = f"{self.name} cannot be written to ({reason(error)}): check the address, or the folder."
            raise InputError(sentence) from error
        self._thread.start()

    @property
    def name(self) -> str:
        """The place for messages; of an address, without the secret key."""
        if not self._live:
            return self._place
        parts = urlsplit(self._place)
        return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}"

    def frame(self, frame: LiveFrame) -> None:
        """See :class:`~emotalking.serve.sinks.Sink`."""
        super().frame(frame)
        since = self._writing_since
        if self._live and since is not None and time.monotonic() - since > _PATIENCE_S:
            # FFmpeg has no limit for a connection whose other side takes nothing: its thread is left to itself.
            _logger.warning("%s has taken nothing for %g s", self.name, _PATIENCE_S)
            self._stream, self._writing_since = None, None
            self._thread = threading.Thread(target=self._run, name=self._thread.name, daemon=True)
            self._thread.start()

    def _opened(self) -> _Stream:
        options = {"movflags": "frag_keyframe+empty_moov"} if self._muxer == "mp4" else {}  # readable if it is cut off
        create = create_stream if self._live else create_media
        return _Stream(create(self._place, self._muxer, options), self._size, self._fps, self._bitrate)

    def _write(self, time_s: Fraction, frame: LiveFrame) -> None:
        self._writing_since = time.monotonic()
        stream = self._stream or self._opened_again()
        try:
            if stream is not None:
                stream.write(time_s, frame)
                self._wait_s = _RETRY_S[0]
        except (av.error.FFmpegError, OSError) as error:
            if threading.current_thread() is not self._thread:
                return
            if not self._live:
                self._stream = None
                raise InputError(f"{self.name} cannot be written to ({reason(error)}).") from error
            _logger.warning("the connection to %s was lost (%s)", self.name, reason(error))
            self._stream, self._open_at = None, time.monotonic() + self._wait_s
        if threading.current_thread() is self._thread:
            self._writing_since = None

    def _opened_again(self) -> _Stream | None:
        """The stream on a new connection; None: it is not yet time for that, or there is none."""
        if time.monotonic() < self._open_at:
            return None
        try:
            self._stream = self._opened()
        except (av.error.FFmpegError, OSError) as error:
            self._wait_s = min(2 * self._wait_s, _RETRY_S[1])
            self._open_at = time.monotonic() + self._wait_s
            _logger.info("%s cannot be reached (%s)", self.name, reason(error))
            return None
        _logger.warning("connected to %s again", self.name)
        return self._stream

    def _end(self) -> None:
        stream, self._stream = self._stream, None
        try:
            if stream is not None:
                stream.close()
                if self._finish is not None and not self._live:
                    finish_file(Path(self._place), self._finish)
        except (av.error.FFmpegError, OSError) as error:
            _logger.warning("the end of %s could not be written (%s)", self.name, reason(error))


class VirtualCamera(Output):
    """Images to a virtual camera (OBS on Windows and macOS, v4l2loopback on Linux), which has no sound.

    Args:
        width: pixels of the camera; images of another size are scaled.
        height: pixels.
        fps: frames per second that the camera states.
        device: name of the camera; None: the first.

    Raises:
        MissingPackageError: pyvirtualcam is not installed.
        InputError: there is no virtual camera.
    """

    def __init__(self, width: int, height: int, fps: Fraction, device: str | None = None) -> None:
        super().__init__("virtual camera")
        try:
            import pyvirtualcam  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise MissingPackageError(
                "the virtual camera needs pyvirtualcam, which is not installed: pip install 'emotalking[camera]'."
            ) from error
        self._size = width + width % 2, height + height % 2
        try:
            self._camera = pyvirtualcam.Camera(*self._size, float(fps), device=device)
        except RuntimeError as error:
            raise InputError(
                f"there is no virtual camera ({error}): install OBS, or load v4l2loopback on Linux."
            ) from error
        self._converter = VideoReformatter()
        self._thread.start()

    @property
    def device(self) -> str:
        """Name under which programs find the camera."""
        return str(self._camera.device)

    def _write(self, time_s: Fraction, frame: LiveFrame) -> None:
        if frame.image is None:
            return
        image = even_rgb(np.asarray(frame.image))
        if image.shape[1::-1] != self._size:
            scaled = VideoFrame.from_ndarray(image, format="rgb24")
            image = self._converter.reformat(scaled, *self._size, interpolation=Interpolation.BICUBIC).to_ndarray()
        self._camera.send(image)

    def _end(self) -> None:
        self._camera.close()


class Loudspeakers(Output):
    """Sound to a sound card, such as a virtual cable beside a virtual camera; the card keeps the time.

    Args:
        sample_rate: of the frames, Hz.
        device: name or number of the sound card's output; None: the system's choice.

    Raises:
        MissingPackageError: sounddevice or PortAudio is not installed.
        InputError: there is no such output.
    """

    def __init__(self, sample_rate: int = 48000, device: str | int | None = None) -> None:
        super().__init__("loudspeakers")
        sounddevice = sound_card()
        try:
            self._stream = sounddevice.OutputStream(
                samplerate=sample_rate, device=device, channels=1, dtype="float32", latency="low"
            )
            self._stream.start()
        except (sounddevice.PortAudioError, ValueError) as error:
            raise InputError(f"the loudspeakers cannot be opened ({error}): choose another output.") from error
        self._thread.start()

    def _write(self, time_s: Fraction, frame: LiveFrame) -> None:
        self._stream.write(np.ascontiguousarray(frame.audio[:, None], np.float32))

    def _end(self) -> None:
        self._stream.close()
