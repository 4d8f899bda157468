"""WebRTC with a client in the same process: what arrives, with which clock, and what is left when it leaves."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

pytest.importorskip("aiortc", reason="aiortc is not installed (extra serve)")

import aioice.ice
from aiortc import (
    AudioStreamTrack,
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCSessionDescription,
)
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.opus import OpusEncoder
from aiortc.codecs.vpx import Vp8Encoder
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import RtcpSrPacket
from av import AudioFrame, VideoFrame

from emotalking.errors import InputError
from emotalking.player.streaming import LiveFrame
from emotalking.serve import webrtc
from emotalking.serve.scheduler import Scheduler
from emotalking.serve.server import LiveServer
from emotalking.serve.session import Session
from emotalking.serve.settings import ServeSettings
from emotalking.serve.webrtc import Peer, webrtc_router
from emotalking.serve.webrtc_tracks import ImageTrack, MediaClock, SoundTrack, lift_bitrates

from .talking import FakeAvatar, become

RATE, FPS, SIZE = 48000, Fraction(25), 64
TONE = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(RATE // 25) / RATE)).astype(np.float32)
PATIENCE_S = 60.0
"""With a busy machine; nothing waits for so long."""


@pytest.fixture(autouse=True)
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Candidates on loopback, so that no network is needed."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    with Scheduler({"disc": FakeAvatar(SIZE, FPS)}, ServeSettings()) as started:
        yield started


@dataclass
class Viewer:
    """A client: keeps all that it receives, and when the server says that it was due."""

    connection: RTCPeerConnection
    images: list[tuple[int, np.ndarray]] = field(default_factory=list)
    """Time stamps (90 kHz) and grey images."""
    sounds: list[tuple[int, np.ndarray]] = field(default_factory=list)
    """Time stamps (48 kHz) and samples."""
    reports: dict[str, list[RtcpSrPacket]] = field(default_factory=dict)
    first: dict[str, int] = field(default_factory=dict)
    """RTP time stamps of the first packets, from which aiortc counts."""
    events: list[dict[str, Any]] = field(default_factory=list)
    channel: Any = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @classmethod
    def make(cls, codec: str = "VP8", speaks: MediaStreamTrack | None = None) -> "Viewer":
        viewer = cls(RTCPeerConnection(RTCConfiguration(iceServers=[])))
        connection = viewer.connection
        sound = connection.addTransceiver(speaks or "audio", "sendrecv" if speaks else "recvonly")
        image = connection.addTransceiver("video", "recvonly")
        known = RTCRtpReceiver.getCapabilities("video").codecs
        image.setCodecPreferences([one for one in known if one.name in (codec, "rtx")])
        viewer.watch("audio", sound.receiver)
        viewer.watch("video", image.receiver)
        viewer.channel = connection.createDataChannel("emotalking.v1")
        viewer.channel.on("message", lambda message: viewer.events.append(json.loads(message)))
        return viewer

    def watch(self, kind: str, receiver: RTCRtpReceiver) -> None:
        """Note what the clock of a receiver's packets is."""
        packet_came, report_came = receiver._handle_rtp_packet, receiver._handle_rtcp_packet

        async def packet(packet: Any, arrival_time_ms: int) -> None:
            self.first.setdefault(kind, packet.timestamp)
            await packet_came(packet, arrival_time_ms=arrival_time_ms)

        async def report(packet: Any) -> None:
            if isinstance(packet, RtcpSrPacket):
                self.reports.setdefault(kind, []).append(packet)
            await report_came(packet)

        receiver._handle_rtp_packet, receiver._handle_rtcp_packet = packet, report

    async def offer(self) -> str:
        await self.connection.setLocalDescription(await self.connection.createOffer())
        return self.connection.localDescription.sdp

    async def connect(self, answer: Callable[[str], Awaitable[str]]) -> None:
        """Give an offer and read what comes."""
        description = RTCSessionDescription(await answer(await self.offer()), "answer")
        await self.connection.setRemoteDescription(description)
        for receiver in self.connection.getReceivers():
            self.tasks.append(asyncio.ensure_future(self.read(receiver.track)))
        await become(lambda: self.events)

    async def read(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            if isinstance(frame, VideoFrame):
                self.images.append((frame.pts, frame.to_ndarray(format="gray")))
            elif isinstance(frame, AudioFrame):
                self.sounds.append((frame.pts, frame.to_ndarray().reshape(-1, 2).mean(1) / 32768))

    def send(self, type: str, **values: object) -> None:
        self.channel.send(json.dumps({"type": type, **values}))

    async def event(self, type: str) -> dict[str, Any]:
        """The first event of a type; waits for it."""
        await become(lambda: any(event["type"] == type for event in self.events))
        return next(event for event in self.events if event["type"] == type)

    def due(self, kind: str, timestamps: np.ndarray, report: int = -1) -> np.ndarray:
        """When received frames were due by a sender's report, in seconds, as browsers reckon."""
        sent = self.reports[kind][report].sender_info
        since = (timestamps + self.first[kind] - sent.rtp_timestamp + 2**31) % 2**32 - 2**31
        return sent.ntp_timestamp / 2**32 + since / {"audio": RATE, "video": 90_000}[kind]

    def flashes(self) -> np.ndarray:
        """Time stamps of the images that turn white."""
        white = [(pts, image.mean() > 128) for pts, image in self.images]
        return np.array([pts for (pts, now), (_, old) in zip(white[1:], white, strict=False) if now and not old])

    def tones(self) -> np.ndarray:
        """Time stamps at which the sound becomes loud."""
        times = np.concatenate([pts + np.arange(len(samples)) for pts, samples in self.sounds])
        loud = times[np.abs(np.concatenate([samples for _, samples in self.sounds])) > 0.1]
        return loud[np.diff(loud, prepend=-RATE) > RATE // 4]

    def hears(self) -> bool:
        """True if the newest packet has sound."""
        return bool(self.sounds) and float(np.abs(self.sounds[-1][1]).max()) > 0.05

    def apart(self, report: int) -> np.ndarray:
        """Seconds between marked images and their tones; on a busy machine one of the two may have been dropped."""
        if not len(self.flashes()) or not self.sounds or not len(self.tones()):
            return np.zeros(0)
        seen, heard = self.due("video", self.flashes(), report), self.due("audio", self.tones(), report)
        nearest = np.abs(seen[:, None] - heard).min(1)
        return nearest[nearest < 0.5]

    async def leave(self) -> None:
        await self.connection.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """All tasks that begin within the block end with it."""
    before = asyncio.all_tasks()
    yield
    await become(lambda: asyncio.all_tasks() <= before)


@asynccontextmanager
async def watching(
    scheduler: Scheduler, make: Callable[..., Peer] = Peer, **options: Any
) -> AsyncIterator[tuple[Viewer, Peer, Session]]:
    """A viewer of a session, connected."""
    session = scheduler.open("disc")
    async with nothing_left():
        peer, viewer = make(session, scheduler, scheduler.settings), Viewer.make(**options)
        await viewer.connect(peer.answer)
        yield viewer, peer, session
        await viewer.leave()
        await peer.close()
    assert not session.attached


class Marked(Peer):
    """Sends a white image and a tone with every 25th frame, and else neither."""

    def frame(self, frame: LiveFrame) -> None:
        marked = frame.index % 25 == 12
        image = np.full((SIZE, SIZE, 3), 255 if marked else 30, np.uint8)
        super().frame(replace(frame, image=image, audio=TONE if marked else np.zeros_like(TONE)))


@pytest.mark.parametrize("codec", ["VP8", "H264"])
def test_sound_and_image_have_one_clock(codec: str, scheduler: Scheduler) -> None:
    async def run() -> None:
        async with watching(scheduler, Marked, codec=codec) as (viewer, _, _):
            kinds = ("audio", "video")
            await become(lambda: min(len(viewer.reports.get(kind, ())) for kind in kinds) > 1)
            await become(lambda: len(viewer.apart(0)) >= 5)
        steps = np.diff([pts for pts, _ in viewer.images])
        assert set(steps % 3600) == {0}, "25 frames a second, whatever was dropped"
        assert np.median(steps) == 3600
        assert {len(samples) for _, samples in viewer.sounds} == {960}
        for report in range(2):  # each pair of reports tells the same
            assert np.median(viewer.apart(report)) < 0.01
        assert {image.shape for _, image in viewer.images} == {(SIZE, SIZE)}

    asyncio.run(run())


def test_messages_and_sound_on_the_data_channel(scheduler: Scheduler) -> None:
    async def run() -> None:
        async with watching(scheduler) as (viewer, _, session):
            hello = viewer.events[0]
            assert (hello["type"], hello["session"], hello["synthetic"]) == ("hello", session.id, True)
            viewer.send("audio", sample_rate=8000, format="s16")
            noise = np.random.default_rng(0).integers(-9000, 9000, 10 * 8000).astype("<i2")
            for piece in np.split(noise, 40):
                viewer.channel.send(piece.tobytes())
            viewer.send("flush")
            await viewer.event("started")
            await become(viewer.hears)
            assert not any(event["type"] == "error" for event in viewer.events)
            viewer.send("clear")
            cleared = await viewer.event("cleared")
            assert 0 < cleared["position_s"] < 9
            await become(lambda: not viewer.hears())
            assert session.queued_s == 0
            viewer.send("ping", t=3.5)
            assert (await viewer.event("pong"))["t"] == 3.5
            viewer.send("emotion", name="nobody feels this")
            assert "message" in await viewer.event("error")

    asyncio.run(run())


def test_malformed_messages_end_the_connection(scheduler: Scheduler) -> None:
    async def run() -> None:
        async with watching(scheduler) as (viewer, peer, session):
            for message in ("{", "[]", '{"type": "nothing"}', b"\0\0\0", "x" * 40_000, '{"type": "audio"}', "{}"):
                viewer.channel.send(message)
            await become(lambda: peer.closed and session.ended is not None)
        assert sum(event["type"] == "error" for event in viewer.events) >= 5

    asyncio.run(run())


class Microphone(AudioStreamTrack):
    """A second of tone after half a second of silence, then silence."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    async def recv(self) -> AudioFrame:
        await asyncio.sleep(0.02)
        start = self.count * 960
        samples = 0.4 * np.sin(2 * np.pi * 440 * (start + np.arange(960)) / RATE) * (25 <= self.count < 75)
        frame = AudioFrame.from_ndarray((samples * 32767).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
        self.count += 1
        return frame


def test_the_head_repeats_the_microphone(scheduler: Scheduler) -> None:
    async def run() -> None:
        async with watching(scheduler, speaks=Microphone()) as (viewer, _, _):
            await viewer.event("ended")
            samples = np.concatenate([samples for _, samples in viewer.sounds])
            loud = np.count_nonzero(np.abs(samples) > 0.01) / RATE
            assert loud == pytest.approx(1.0, abs=0.15)
            assert sum(event["type"] == "started" for event in viewer.events) == 1

    asyncio.run(run())


def test_when_the_server_ends_a_session_the_client_is_told(scheduler: Scheduler) -> None:
    async def run() -> None:
        async with watching(scheduler) as (viewer, peer, session):
            session.end("enough")
            assert (await viewer.event("bye"))["reason"] == "enough"
            await become(lambda: peer.closed)

    asyncio.run(run())


def test_a_client_that_leaves_ends_its_session_and_one_that_is_lost_does_not(scheduler: Scheduler) -> None:
    async def run() -> None:
        async with watching(scheduler) as (viewer, peer, session):
            await viewer.leave()
            await become(lambda: peer.closed and session.ended is not None)
        async with watching(scheduler) as (viewer, peer, session):
            peer._connection._RTCPeerConnection__connectionState = "failed"  # as after the time for consent
            peer._state_changed()
            await become(lambda: peer.closed)
            assert session.ended is None and not session.attached

    asyncio.run(run())


def test_an_offer_that_nobody_follows_up_is_forgotten(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webrtc, "_CONNECT_S", 0.2)

    async def run() -> None:
        left: list[Peer] = []
        async with nothing_left():
            peer = Peer(scheduler.open("disc"), scheduler, scheduler.settings, left=left.append)
            viewer = Viewer.make()
            await peer.answer(await viewer.offer())
            await become(lambda: peer.closed and left == [peer])
            await viewer.leave()

    asyncio.run(run())


def test_offers_that_cannot_be_answered(scheduler: Scheduler) -> None:
    async def run() -> None:
        async with nothing_left():
            viewer = Viewer.make()
            viewer.connection.addTransceiver("video", "sendonly")
            many = await viewer.offer()
            for offer, words in ((many, "several tracks"), ("v=0", "neither sound"), ("m=x", "no session")):
                peer = Peer(scheduler.open("disc"), scheduler, scheduler.settings)
                with pytest.raises(InputError, match=words):
                    await peer.answer(offer)
                assert peer.closed
            await viewer.leave()

    asyncio.run(run())


def post(server: LiveServer, body: object, **headers: str) -> dict[str, Any]:
    """POST to ``/v1/offer``."""
    request = urllib.request.Request(f"{server.address}v1/offer", json.dumps(body).encode())
    for name, value in ({"Content-Type": "application/json"} | headers).items():
        request.add_header(name, value)
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return json.load(answer)


def refusal(server: LiveServer, body: object, **headers: str) -> int:
    with pytest.raises(urllib.error.HTTPError) as found:
        post(server, body, **headers)
    return found.value.code


def test_over_http() -> None:
    settings = ServeSettings(port=0, max_sessions=2, token="a-secret-of-tests")
    token = {"Authorization": "Bearer a-secret-of-tests"}
    server = LiveServer({"disc": FakeAvatar(SIZE, FPS)}, settings, [webrtc_router()])
    server.start()

    async def run() -> None:
        async with nothing_left():
            viewer, again = Viewer.make(), Viewer.make()
            given: dict[str, Any] = {}

            async def answer(offer: str, **more: str) -> str:
                body = {"sdp": offer, "type": "offer", **more}
                given.update(await asyncio.to_thread(post, server, body, **token))
                return given["sdp"]

            await viewer.connect(answer)
            (session,) = server.scheduler.sessions
            peers = list(session._sinks)
            assert given["session"] == session.id and given["type"] == "answer"
            await become(lambda: viewer.images and viewer.sounds)
            key = {"resume": session.id, "secret": session.secret}
            await again.connect(lambda offer: answer(offer, **key))
            assert again.events[0]["resumed"] and again.events[0]["session"] == session.id
            assert "another connection" in (await viewer.event("bye"))["reason"]
            await become(lambda: again.images)
            offer = {"sdp": await Viewer.make().offer(), "type": "offer"}

            def refusals() -> None:
                assert refusal(server, offer) == 401
                assert refusal(server, offer, Origin="http://elsewhere.example", **token) == 403
                assert refusal(server, offer | {"resume": session.id, "secret": "wrong"}, **token) == 404
                assert refusal(server, offer | {"avatar": "nobody"}, **token) == 400
                assert refusal(server, {"sdp": "v=0", "type": "offer"}, **token) == 400
                assert refusal(server, {"sdp": "v=0", "type": "answer"}, **token) == 422
                assert refusal(server, {"sdp": "x" * 70_000, "type": "offer"}, **token) == 413
                assert len(server.scheduler.sessions) == 1, "nothing is left of them"
                server.scheduler.open("disc").attach(peers[0])  # in use, or it would make room
                assert refusal(server, offer, **token) == 503

            await asyncio.to_thread(refusals)
            await asyncio.to_thread(server.stop)  # its peers go with it
            assert (await again.event("bye"))["reason"]
            await viewer.leave()
            await again.leave()

    try:
        asyncio.run(run())
    finally:
        server.stop()


class TestTracks:
    def test_what_is_not_read_is_dropped_and_the_rest_keeps_its_time(self) -> None:
        async def run() -> None:
            track = SoundTrack(MediaClock())
            for index in range(25):
                track.put(index * 1920, np.full(1920, index / 100, np.float32), RATE, 0)
            packets = [await track.recv() for _ in range(10)]
            assert [packet.pts for packet in packets] == [20 * 1920 + 960 * index for index in range(10)]
            values = [int(packet.to_ndarray()[0, 0]) for packet in packets]
            assert values == [round((20 + index // 2) / 100 * 32767) for index in range(10)]
            encoder = OpusEncoder()
            starts = [int(encoder.encode(packet)[1]) for packet in packets]
            assert starts == [960 * index for index in range(10)]
            track.put(60 * 1920, np.zeros(1920, np.float32), RATE, 0)
            encoder.encode(await track.recv())  # its converter gives the first one after a gap an old time
            assert encoder.encode(await track.recv())[1] == 40 * 1920 + 960
            waiting = asyncio.ensure_future(track.recv())
            await asyncio.sleep(0)
            track.stop()
            with pytest.raises(MediaStreamError):
                await waiting

        asyncio.run(run())

    def test_packets_of_a_frame_are_not_sent_at_once(self) -> None:
        async def run() -> list[float]:
            track, loop, times = SoundTrack(MediaClock()), asyncio.get_running_loop(), []
            track.put(0, np.zeros(4800, np.float32), RATE, 0)
            for _ in range(5):
                await track.recv()
                times.append(loop.time())
            return times

        assert np.diff(asyncio.run(run())).min() > 0.005

    def test_an_interruption_empties_what_waits(self) -> None:
        async def run() -> None:
            track = SoundTrack(MediaClock())
            track.put(0, np.full(2400, 0.5, np.float32), RATE, 0)
            track.put(2400, np.full(1440, 0.25, np.float32), RATE, 1)
            values = np.concatenate([(await track.recv()).to_ndarray()[0] for _ in range(4)])
            assert np.flatnonzero(values)[0] == 2400, "the old speech is silence, and the clock goes on"

        asyncio.run(run())

    def test_only_the_newest_image_waits(self) -> None:
        async def run() -> None:
            track = ImageTrack()
            for index in range(5):
                track.put(Fraction(index, 25), np.full((8, 8, 3), index, np.uint8))
            frame = await track.recv()
            assert frame.pts == 4 * 3600 and (frame.to_ndarray() == 4).all()
            waiting = asyncio.ensure_future(track.recv())
            await asyncio.sleep(0)
            assert not waiting.done()
            track.put(Fraction(5, 25), np.zeros((7, 9, 4), np.uint8))
            assert (await waiting).to_ndarray().shape == (8, 10, 3)
            for index in range(100):  # of 50 frames a second, aiortc's encoders take 30 at most
                track.put(Fraction(1) + Fraction(index, 50), np.zeros((8, 8, 3), np.uint8))
                if track._newest is not None:
                    await track.recv()
                    waiting_for = index
            assert waiting_for == 98

        asyncio.run(run())

    def test_bit_rates_are_lifted(self) -> None:
        lift_bitrates()
        for encoder in (Vp8Encoder(), H264Encoder()):
            assert encoder.target_bitrate == 2_000_000
            encoder.target_bitrate = 8_000_000
            assert encoder.target_bitrate == 8_000_000
