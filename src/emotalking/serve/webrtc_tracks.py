"""Sound and image of a session as WebRTC tracks with one clock: the count of the session's samples.

aiortc's own tracks begin clocks of their own and count 30 frames a second; here the time stamps of both are the place
of their first sample in all the sound of the session, whatever was dropped.
"""

import asyncio
import time
from fractions import Fraction

import numpy as np
from aiortc import MediaStreamTrack, RTCRtpSender, VideoStreamTrack
from aiortc.clock import NTP_EPOCH, current_ntp_time
from aiortc.codecs import h264, vpx
from aiortc.codecs.opus import SAMPLE_RATE as OPUS_RATE
from aiortc.mediastreams import VIDEO_CLOCK_RATE, VIDEO_TIME_BASE, MediaStreamError
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtcrtpsender import RTCEncodedFrame
from aiortc.rtp import AnyRtcpPacket, RtcpSrPacket
from av import AudioFrame, VideoFrame
from jaxtyping import Float, UInt8

from emotalking.serve.outputs import even_rgb

_PACKET_S = 0.02
"""Sound of a packet."""
_LONGEST_S = 0.2
"""Sound that may wait for a sender that is late; older sound is dropped."""
_OPUS_DELAY_S = 0.0065
"""By which sound leaves a decoder later than its time stamp says (312 samples of the encoder's window)."""
_JUMP_S = 0.2
"""A clock that differs more from the frames' (the machine slept) is set anew."""
_MOST_FPS = 30
"""Rate for which aiortc opens its encoders; images beyond it are dropped."""
_DEFAULT_BITRATE, _MOST_BITRATE = 2_000_000, 10_000_000


def lift_bitrates() -> None:
    """Let aiortc's encoders, of the whole process, begin at 2 and reach 10 Mbit/s, where the receiver asks for it.

    Its own limits (VP8 0.5 and 1.5, H.264 1 and 3 Mbit/s) are constants of its modules, and blur a head of 512 pixels.
    """
    for codec in (h264, vpx):
        vars(codec).update(DEFAULT_BITRATE=_DEFAULT_BITRATE, MAX_BITRATE=_MOST_BITRATE)


class MediaClock:
    """The time of the session's sound on the machine's clock, the same for both tracks."""

    def __init__(self) -> None:
        self._origin: float | None = None

    def arrived(self, time_s: float) -> None:
        """Note that a frame at ``time_s`` of the session's sound came now."""
        origin = time.time() - time_s
        if self._origin is None or abs(origin - self._origin) > _JUMP_S:
            self._origin = origin

    def ntp(self, time_s: float) -> int:
        """When the sound at ``time_s`` was due, as an NTP time stamp of 64 bits."""
        if self._origin is None:
            return current_ntp_time()
        return round((self._origin + time_s - NTP_EPOCH.timestamp()) * 2**32)


def report_media_time(sender: RTCRtpSender, track: "SoundTrack | ImageTrack", clock: MediaClock) -> None:
    """Let a sender's reports name the media time of what it sent, by which receivers bring sound and image together.

    aiortc reports when a packet was sent, and an image is encoded longer than a sound: sound and image would be apart
    by the difference. The two methods replaced here are the only place that knows the packet and its report.
    """
    encoded = sender._next_encoded_frame
    send = sender._send_rtcp
    last_s = 0.0

    async def next_encoded_frame(codec: RTCRtpCodecParameters) -> RTCEncodedFrame | None:
        nonlocal last_s
        frame = await encoded(codec)
        if frame is not None:
            last_s = track.media_time(frame.timestamp)
        return frame

    async def send_rtcp(packets: list[AnyRtcpPacket]) -> None:
        for packet in packets:
            if isinstance(packet, RtcpSrPacket):
                packet.sender_info.ntp_timestamp = clock.ntp(last_s)
        await send(packets)

    sender._next_encoded_frame, sender._send_rtcp = next_encoded_frame, send_rtcp


class SoundTrack(MediaStreamTrack):
    """The session's sound in packets of 20 ms."""

    kind = "audio"

    def __init__(self, clock: MediaClock) -> None:
        super().__init__()
        self._clock = clock
        self._first_s: float | None = None
        self._samples = np.zeros(0, np.float32)
        self._start = 0
        self._rate = 48000
        self._generation = 0
        self._more = asyncio.Event()
        self._arrived = (0, 0.0)

    def media_time(self, timestamp: int) -> float:
        """Seconds of the session's sound before an encoded packet, of which the first has the time stamp 0."""
        return (self._first_s or 0.0) + timestamp / OPUS_RATE - _OPUS_DELAY_S

    def put(self, position: int, samples: Float[np.ndarray, " n"], rate: int, generation: int) -> None:
        """Append the sound of a frame.

        Args:
            position: samples of the session before it.
            samples: mono in [-1, 1].
            rate: Hz.
            generation: when it rises, what waits is of a speech that was interrupted, and becomes silence.
        """
        if generation != self._generation or rate != self._rate:
            self._samples = np.zeros_like(self._samples)
            self._generation, self._rate = generation, rate
        self._samples = np.concatenate([self._samples, samples])
        self._samples = self._samples[-int(_LONGEST_S * rate) :]
        self._start = position + len(samples) - len(self._samples)
        self._arrived = position, asyncio.get_running_loop().time()
        self._clock.arrived(position / rate)
        self._more.set()

    def stop(self) -> None:
        """End the track; who waits for a frame is told."""
        super().stop()
        self._more.set()

    async def recv(self) -> AudioFrame:
        """The next packet, when it is due.

        Raises:
            MediaStreamError: the track has ended.
        """
        count = round(self._rate * _PACKET_S)
        while len(self._samples) < count and self.readyState == "live":
            self._more.clear()
            await self._more.wait()
        await self._pace()
        if self.readyState != "live":
            raise MediaStreamError
        count = round(self._rate * _PACKET_S)
        samples, self._samples = self._samples[:count], self._samples[count:]
        packet = AudioFrame.from_ndarray(_pcm16(samples)[None], format="s16", layout="mono")
        packet.sample_rate, packet.time_base, packet.pts = self._rate, Fraction(1, self._rate), self._start
        if self._first_s is None:
            self._first_s = self._start / self._rate
        self._start += count
        return packet

    async def _pace(self) -> None:
        """Wait for the time of the next packet: those of a frame are not sent in one burst."""
        position, arrived = self._arrived
        due = arrived + (self._start - position) / self._rate
        await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))


class ImageTrack(VideoStreamTrack):
    """The session's images: always the newest, none waits behind it."""

    def __init__(self) -> None:
        super().__init__()
        self._newest: tuple[Fraction, np.ndarray] | None = None
        self._sent = Fraction(-1)
        self._more = asyncio.Event()

    def put(self, time_s: Fraction, image: UInt8[np.ndarray, "H W channels"]) -> None:
        """Take an image in place of one that was not sent yet.

        Args:
            time_s: seconds of the session's sound before it.
            image: RGB, or RGBA with straight alpha, which is put on black.
        """
        # An encoder cannot take two frames within one of its ticks; 29.97 fps is within its 30.
        if (time_s - self._sent) * _MOST_FPS > Fraction(9, 10):
            self._newest = time_s, image
            self._more.set()

    def stop(self) -> None:
        """End the track; who waits for a frame is told."""
        super().stop()
        self._more.set()

    def media_time(self, timestamp: int) -> float:
        """Seconds of the session's sound before an encoded image."""
        return timestamp / VIDEO_CLOCK_RATE

    async def next_timestamp(self) -> tuple[int, Fraction]:
        """Time stamp of the next image, as soon as there is one.

        Raises:
            MediaStreamError: the track has ended.
        """
        while self._newest is None and self.readyState == "live":
            self._more.clear()
            await self._more.wait()
        if self._newest is None or self.readyState != "live":
            raise MediaStreamError
        return round(self._newest[0] * VIDEO_CLOCK_RATE), VIDEO_TIME_BASE

    async def recv(self) -> VideoFrame:
        """The newest image, as soon as there is one that was not sent.

        Raises:
            MediaStreamError: the track has ended.
        """
        pts, time_base = await self.next_timestamp()
        assert self._newest is not None
        self._sent, image = self._newest
        self._newest = None
        frame = VideoFrame.from_ndarray(even_rgb(image), format="rgb24")
        frame.pts, frame.time_base = pts, time_base
        return frame


def _pcm16(samples: Float[np.ndarray, " n"]) -> np.ndarray:
    return (np.clip(samples, -1.0, 1.0) * 32767.0).round().astype(np.int16)
