"""Read any sound file as float32 mono at 16 kHz, in a stream; write WAV files.

Video files keep their audio in sync with the images: sound that begins later than the first frame is preceded by
silence, sound that begins earlier is cut, and gaps in the time stamps become silence instead of drift.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import av.error
import numpy as np
import soundfile
import soxr
from av import AudioFrame, AudioStream
from av.container import InputContainer
from av.stream import Disposition
from jaxtyping import Float

from emotalking.errors import InputError
from emotalking.io.downmix import Mixer
from emotalking.io.files import Finish, write_bytes
from emotalking.io.reading import reason
from emotalking.io.sound_tracks import full_scale_gain, open_sound

SAMPLE_RATE = 16000
"""Hz; the rate of all audio inside the package."""

_GAP_S = 0.1
"""Time stamps that jump by more than this are a real gap; less is rounding (Matroska counts milliseconds)."""
_LONGEST_GAP_S = 600.0
"""A larger jump is a broken clock (transport streams wrap theirs), not a pause."""
_EXACT_LENGTH = ("wav", "flac", "mov,mp4", "aiff", "w64", "matroska")
"""Containers whose header declares the true length; the others estimate it from the bit rate."""


@dataclass
class SoundSpan:
    """Time span of a file's audio, in seconds on its own clock; filled while :func:`iter_audio` runs."""

    begin: float = math.inf
    end: float = 0.0
    damaged: list[float] = field(default_factory=list)
    """Times of packets that could not be decoded (of the next good one)."""
    track: int = 1
    """Number of the sound track, from 1."""
    tracks: int = 1
    """Sound tracks in the file."""


def load_audio(
    path: str | Path,
    start: float | None = None,
    longest_s: float | int | None = None,
    *,
    track: int | None = None,
) -> Float[np.ndarray, " S"]:
    """The sound of ``path`` as float32 mono at 16 kHz in [-1, 1].

    Any container, codec, sample format, rate and number of channels that FFmpeg reads, mixed by
    :class:`~.downmix.Mixer`. Sound above full scale (float files, many channels) is made quieter, not clipped. Beyond
    the result itself the memory does not grow with the length.

    Args:
        path: sound or video file.
        start: as in :func:`iter_audio`.
        longest_s: as in :func:`iter_audio`.
        track: as in :func:`iter_audio`.

    Raises:
        InputError: missing, empty or unreadable file, no audio stream, or a file that was cut short.
    """
    buffer = bytearray()
    for chunk in iter_audio(path, start=start, track=track, longest_s=longest_s):
        buffer += chunk.tobytes()
    return np.frombuffer(buffer, dtype=np.float32)


def iter_audio(
    path: str | Path,
    rate: int = SAMPLE_RATE,
    start: float | None = None,
    strict: bool = True,
    span: SoundSpan | None = None,
    track: int | None = None,
    longest_s: float | int | None = None,
) -> Iterator[Float[np.ndarray, " n"]]:
    """The same samples as :func:`load_audio`, in consecutive pieces of at most some ten thousand samples.

    Args:
        path: sound or video file.
        rate: sampling rate [Hz] of the result; other than 16 kHz only for sound that goes into a video.
        start: time [s] on the file's own clock of the first sample; None: of the first frame, or of the first sound
            where there is no video.
        strict: refuse a file that is damaged or cut short; otherwise damage becomes silence of the same length.
        span: filled until the last piece.
        track: number of the sound track, from 1; None: the first one marked as default that is not silent, else the
            first that is not silent.
        longest_s: read no further than so many seconds of the result (the last sample counts whole); None: all. What is
            wrong behind them is not noticed, and what is above full scale there makes nothing quieter.

    Raises:
        InputError: as :func:`load_audio`; a cut-short file is noticed after its last good sample.
    """
    path = Path(path)
    _check_file(path, strict)
    with open_sound(path, track) as (container, stream):
        start = _video_start(container) if start is None else start
        span = SoundSpan() if span is None else span
        sounds = list(container.streams.audio)
        span.track, span.tracks = sounds.index(stream) + 1, len(sounds)
        decoded = _Decoder(path, stream, start, rate, strict, span)
        # The first sample may come a little before the time 0.
        end = None if longest_s is None else (start or 0.0) + longest_s + 1.0
        decoded.gain = full_scale_gain(path, span.track - 1, stream, end)
        left = None if longest_s is None else math.ceil(longest_s * rate)
        for chunk in decoded.chunks(container):
            yield chunk if left is None else chunk[:left]
            if left is not None and (left := left - len(chunk)) <= 0:
                return
        _check_complete(path, container, stream, decoded)


def resample(samples: Float[np.ndarray, " S"], rate: int, new_rate: int) -> Float[np.ndarray, " n"]:
    """Mono ``samples`` at another rate [Hz], float32; band-limited (soxr, high quality)."""
    return soxr.resample(samples.astype(np.float32), rate, new_rate)


def save_wav(
    path: str | Path, samples: Float[np.ndarray, " S"], rate: int = SAMPLE_RATE, *, finish: Finish | None = None
) -> None:
    """Write mono ``samples`` in [-1, 1] (clipped) as 16-bit PCM WAV; the file appears under its name when complete.

    Args:
        path: the file.
        samples: the sound.
        rate: sampling rate [Hz].
        finish: last step, such as a signature (:func:`~emotalking.io.files.replacing`).
    """
    content = BytesIO()  # soundfile overlooks a full disk
    soundfile.write(content, np.clip(samples, -1.0, 1.0), rate, format="WAV", subtype="PCM_16")
    write_bytes(Path(path), content.getvalue(), finish)


def _check_file(path: Path, strict: bool) -> None:
    """Refuse what cannot be a sound file before FFmpeg sees it."""
    if not path.exists():
        raise InputError(f"{path} does not exist: give the path of a sound or video file.")
    if not path.is_file():
        raise InputError(f"{path} is not a file: give the path of a sound or video file.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes): give a file with sound.")
    missing = _missing_wav_bytes(path) if strict else 0
    if missing > 0:
        raise InputError(f"{path} is cut short: its WAV header promises {missing} more bytes; copy or export it again.")


def _missing_wav_bytes(path: Path) -> int:
    """Bytes that the data chunk of a RIFF file lacks, which FFmpeg does not report; 0 for any other file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
            return 0
        while len(chunk := file.read(8)) == 8:
            length = int.from_bytes(chunk[4:], "little")
            if chunk[:4] == b"data":
                return 0 if _is_placeholder(length) else max(0, file.tell() + length - size)
            file.seek(length + length % 2, os.SEEK_CUR)
    return 0


def _is_placeholder(length: int) -> bool:
    """True for what writers that cannot seek back (pipes) put in the place of the length, which is then unknown.

    FFmpeg 0xFFFFFFFF, SoX and others 0x7FFFFFFF less the header, espeak-ng 0x7FFFF000, arecord 0x80000000; 0 is no
    promise.
    """
    is_round = any((length + header) % 4096 == 0 for header in (0, 36, 44))
    return length >= 0x7FFF0000 or (length >= 1 << 30 and is_round)


def _video_start(container: InputContainer) -> float | None:
    """Time stamp [s] of the first video frame, None for pure sound (cover images do not count)."""
    for stream in container.streams.video:
        if stream.disposition & Disposition.attached_pic:
            continue
        if stream.start_time is not None and stream.time_base is not None:
            return float(stream.start_time * stream.time_base)
    return None


def _check_complete(path: Path, container: InputContainer, stream: AudioStream, decoded: "_Decoder") -> None:
    """Raise if the header promises clearly more sound than there was."""
    if decoded.seconds == 0:
        raise InputError(f"{path} has an audio stream without a single sample: give a file with sound.")
    if not decoded.strict:
        return
    declared = None
    if stream.duration is not None and stream.time_base is not None:
        declared = float(stream.duration * stream.time_base)
    elif container.duration is not None and not container.streams.video:
        declared = container.duration / 1e6
    if declared is None:
        return
    seconds = max(decoded.seconds, decoded.filled)
    exact = container.format.name.startswith(_EXACT_LENGTH)
    if seconds < declared - (0.25 if exact else 0.25 + 0.05 * declared):
        raise InputError(
            f"{path} is cut short: it promises {declared:.2f} s of sound and ends after {seconds:.2f} s; "
            "copy or export it again."
        )


class _Decoder:
    """Frames of one audio stream to mono chunks of one rate, with the clock kept."""

    def __init__(
        self, path: Path, stream: AudioStream, start: float | None, rate: int, strict: bool, span: SoundSpan
    ) -> None:
        self.path = path
        self.span = span
        self.rate = rate
        self.strict = strict
        self.stream = stream
        self.start = start
        """Time [s] of output sample 0; None: the first sound."""
        self.seconds = 0.0
        """Length of what was decoded from the file."""
        self.filled = 0.0
        """Length of the returned audio, silence included [s]."""
        self.gain = 1.0
        """Factor on all samples."""
        self.faults = 0
        """Packets that could not be decoded."""
        self._noted = 0
        self._bridged = 0
        self._rate = 0
        self._resampler: soxr.ResampleStream | None = None
        self._mix = Mixer()

    def chunks(self, container: InputContainer) -> Iterator[np.ndarray]:
        """All output of the stream."""
        for frame in self.frames(container):
            samples = self._mix(frame)
            samples = samples if self.gain == 1.0 else samples * np.float32(self.gain)
            self.seconds += len(samples) / frame.sample_rate
            if frame.sample_rate != self._rate:
                yield from self._flush()
                self._rate = frame.sample_rate
                self._resampler = soxr.ResampleStream(self._rate, self.rate, 1, dtype="float32")
            samples = self._in_step(samples, frame.time)
            self.filled += len(samples) / self._rate
            # A long gap is fed in pieces, so that a chunk stays small.
            for begin in range(0, len(samples), 65536):
                yield from self._resample(samples[begin : begin + 65536], last=False)
        yield from self._flush()

    def frames(self, container: InputContainer) -> Iterator[AudioFrame]:
        """Decoded frames. Damage before the first one is junk to skip; later it ends the story, or is counted."""
        try:
            for packet in container.demux(self.stream):
                try:
                    frames = packet.decode()
                except av.error.InvalidDataError:
                    if self.seconds > 0 and self.strict:
                        raise
                    self.faults += 1
                    continue
                for frame in frames:
                    self._note(frame)
                    yield frame
        except av.error.FFmpegError as error:
            if not self.strict:
                return
            raise InputError(
                f"{self.path} is damaged or cut short after {self.seconds:.2f} s of sound ({reason(error)}); "
                "copy or export it again."
            ) from error

    def _note(self, frame: AudioFrame) -> None:
        """Add a decoded frame to the span."""
        span = self.span
        time = span.end if frame.time is None else frame.time
        span.begin = time if math.isinf(span.begin) else span.begin
        span.damaged += [round(time, 3)] * (self.faults - self._noted)
        self._noted = self.faults
        span.end = max(span.end, time + frame.samples / frame.sample_rate)

    def _in_step(self, samples: np.ndarray, time: float | None) -> np.ndarray:
        """Silence where the clock advanced without sound; audio before the start or repeated is dropped."""
        if time is None:
            return samples
        if self.start is None:
            self.start = time
        gap = time - self.start - self.filled
        first = self.filled == 0
        # After damage the gap is what the lost packets held: to be filled to the sample, however short.
        smallest = 0.0 if self.faults > self._bridged else _GAP_S
        self._bridged = self.faults
        if gap < 0 and (first or gap < -_GAP_S):
            if gap > -_LONGEST_GAP_S or first:
                return samples[min(len(samples), round(-gap * self._rate)) :]
            self.start += gap
        if gap > 0 and (first or gap > smallest):
            if gap < _LONGEST_GAP_S:
                return np.concatenate([np.zeros(round(gap * self._rate), np.float32), samples])
            self.start += gap
        return samples

    def _resample(self, samples: np.ndarray, last: bool) -> Iterator[np.ndarray]:
        assert self._resampler is not None
        out = self._resampler.resample_chunk(np.ascontiguousarray(samples, np.float32), last=last)
        if len(out):
            if not np.isfinite(out).all():
                raise InputError(
                    f"{self.path} contains samples that are not numbers (NaN or infinite): export it again."
                )
            yield np.clip(out, -1.0, 1.0)

    def _flush(self) -> Iterator[np.ndarray]:
        if self._resampler is not None:
            yield from self._resample(np.zeros(0, np.float32), last=True)
