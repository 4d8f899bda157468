"""WebRTC: one request with an offer, then sound, images and the protocol's messages go directly to the client.

The offer holds the client's candidates, and the answer the server's (no trickling). The client opens a data channel,
which carries the text messages of the WebSocket's protocol, and may send a microphone, which the head repeats.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCDataChannel,
    RTCIceServer,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame
from fastapi import APIRouter, FastAPI, HTTPException, Request
from pydantic import BaseModel, Field

from emotalking.errors import InputError
from emotalking.player.streaming import LiveFrame
from emotalking.serve.ice import IceServer
from emotalking.serve.protocol import Conversation, hello
from emotalking.serve.scheduler import LimitError, Scheduler
from emotalking.serve.session import Session
from emotalking.serve.settings import ServeSettings
from emotalking.serve.sinks import Event
from emotalking.serve.speech import Voice
from emotalking.serve.webrtc_tracks import ImageTrack, MediaClock, SoundTrack, lift_bitrates, report_media_time

_CONNECT_S = 20.0
"""Time for a client to connect after its offer."""
_LAST_WORDS_S = 0.2
"""Time for the last message before the connection closes."""
_LOUDEST_SILENCE = 1e-3
"""Level of a microphone that is switched off: its codec leaves a rest."""
_HOLD_PACKETS, _LEAD_PACKETS = 25, 5
"""Packets (20 ms) of silence after which an utterance of the microphone ends, and that precede it."""
_MOST_UNREAD = 1 << 20
"""Bytes of messages that a client may leave unread."""
_MOST_WAITING = 256
"""Messages of a client that may wait to be applied."""


class Peer:
    """One WebRTC client: a sink of its session.

    Args:
        session: the head that it sees and hears; it waits for a client whose connection was lost.
        scheduler: of the session.
        settings: limits.
        resumed: the session is one to which a client comes back.
        ice: STUN and TURN servers; none: only the machine's own addresses are offered, and nobody else is asked.
        left: called once, when the client has left.
    """

    def __init__(
        self,
        session: Session,
        scheduler: Scheduler,
        settings: ServeSettings,
        *,
        resumed: bool = False,
        ice: Sequence[IceServer] = (),
        left: "Callable[[Peer], None]" = lambda peer: None,
    ) -> None:
        lift_bitrates()
        self.session = session
        self._scheduler, self._settings, self._left = scheduler, settings, left
        self._conversation = Conversation(session, Voice(session, scheduler.speakers).say, settings.messages_per_s)
        self._greeting = hello(session, settings, resumed)
        self._messages: asyncio.Queue[str | bytes] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._connection = RTCPeerConnection(configuration(ice))
        self._clock = MediaClock()
        self._sound, self._images = SoundTrack(self._clock), ImageTrack()
        self._channel: RTCDataChannel | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._samples = 0
        self._closing = self._attached = False
        self.closed = False
        """True when nothing of the connection is left."""
        self._connection.on("connectionstatechange", self._state_changed)
        self._connection.on("datachannel", self._opened)
        self._connection.on("track", self._track)

    async def answer(self, offer: str) -> str:
        """The session description that answers ``offer``.

        Raises:
            InputError: the offer cannot be used.
        """
        connection = self._connection
        try:
            await connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
            kinds = [transceiver.kind for transceiver in connection.getTransceivers()]
            if kinds.count("audio") > 1 or kinds.count("video") > 1:
                raise InputError("the offer has several tracks of a kind: offer one of sound and one of images.")
            if not kinds:
                raise InputError("the offer wants neither sound nor images: offer to receive them.")
            for track in (self._sound, self._images):
                if track.kind in kinds:
                    report_media_time(connection.addTrack(track), track, self._clock)
            for transceiver in connection.getTransceivers():
                if transceiver.kind == "video":
                    transceiver.direction = "sendonly"  # nobody would read the client's camera
            await connection.setLocalDescription(await connection.createAnswer())
        except InputError:
            await self.close()
            raise
        except Exception as error:  # of a description that is none, aiortc raises many kinds
            await self.close()
            raise InputError("the offer is no session description that can be answered.") from error
        self._start(self._give_up())
        return connection.localDescription.sdp

    # The session's side: called from its threads ---------------------------------------------------------------

    def frame(self, frame: LiveFrame) -> None:
        """See :class:`~emotalking.serve.sinks.Sink`."""
        self._call(self._put, frame)

    def event(self, event: Event) -> None:
        """See :class:`~emotalking.serve.sinks.Sink`."""
        self._call(self._tell, event)

    def _call(self, function: Callable[..., None], argument: LiveFrame | Event) -> None:
        with suppress(RuntimeError):  # of a loop that has ended meanwhile
            self._loop.call_soon_threadsafe(function, argument)

    # Within the event loop -------------------------------------------------------------------------------------

    def _put(self, frame: LiveFrame) -> None:
        position, self._samples = self._samples, self._samples + len(frame.audio)
        self._sound.put(position, frame.audio, frame.sample_rate, frame.generation)
        if (began := self.session.sent(frame)) is not None:
            self._scheduler.metrics.first_frame.observe(began)
        if frame.image is not None:
            self._images.put(Fraction(position, frame.sample_rate), np.asarray(frame.image))

    def _tell(self, event: Event) -> None:
        channel = self._channel
        if channel is not None and channel.readyState == "open":
            if channel.bufferedAmount > _MOST_UNREAD:
                event = {"type": "bye", "reason": "the client does not read its messages"}
            else:
                channel.send(json.dumps(event))
        if event["type"] == "bye":
            self._start(self._close_soon())

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` until it ends or the client leaves."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _give_up(self) -> None:
        await asyncio.sleep(_CONNECT_S)
        if not self._attached:
            self._start(self.close())

    async def _close_soon(self) -> None:
        await asyncio.sleep(_LAST_WORDS_S)
        self._start(self.close())

    def _state_changed(self) -> None:
        state = self._connection.connectionState
        if state == "connected" and not self._attached:
            self._attached = True
            self.session.attach(self, alone=True)
            self._scheduler.wake()
        elif state == "failed":  # the session waits for its client
            self._start(self.close())
        elif state == "closed":
            self._start(self._leave("the client has left"))

    def _opened(self, channel: RTCDataChannel) -> None:
        if self._channel is not None:
            channel.close()
            return
        self._channel = channel
        channel.on("message", self._message)
        channel.on("close", lambda: self._start(self._leave("the client has left")))
        self._tell(self._greeting)
        self._start(self._converse())

    def _message(self, message: str | bytes) -> None:
        if self._messages.qsize() < _MOST_WAITING:
            self._messages.put_nowait(message)
        else:
            self._start(self._leave("the client sends more than can be applied"))

    async def _converse(self) -> None:
        """Apply the client's messages one after the other."""
        while await self._off_loop(self._conversation.take, await self._messages.get(), self.event):
            pass
        self._scheduler.metrics.refused.labels("malformed").inc()
        await self._leave("too many malformed messages")

    async def _off_loop(self, function: Callable[..., object], *arguments: object) -> object:
        """Call in a worker: a session may be in use by the render thread for some milliseconds."""
        return await self._loop.run_in_executor(self._scheduler.workers, function, *arguments)

    def _track(self, track: MediaStreamTrack) -> None:
        if track.kind == "audio":
            self._start(self._listen(track))

    async def _listen(self, track: MediaStreamTrack) -> None:
        """Let the head say what the microphone hears; silence ends an utterance."""
        lead: deque[np.ndarray] = deque(maxlen=_LEAD_PACKETS)
        quiet = _HOLD_PACKETS
        try:
            while True:
                packet = await track.recv()
                assert isinstance(packet, AudioFrame)
                samples = _mono(packet)
                quiet = 0 if np.abs(samples).max(initial=0.0) > _LOUDEST_SILENCE else quiet + 1
                lead.append(samples)
                if quiet < _HOLD_PACKETS:
                    sound = np.concatenate(lead)
                    lead.clear()
                    await self._off_loop(self.session.push, sound, packet.sample_rate)
                elif quiet == _HOLD_PACKETS:
                    await self._off_loop(self.session.flush)
        except MediaStreamError:
            if quiet < _HOLD_PACKETS:
                await self._off_loop(self.session.flush)
        except InputError as error:  # of sound that waits too long; the microphone is not listened to any more
            self._tell({"type": "error", "message": str(error)})

    async def _leave(self, reason: str) -> None:
        """Close for good: the session ends too, unless it goes on in another connection."""
        if not self._closing and self.session.detach(self):
            await self._off_loop(self._scheduler.leave, self.session, reason)
        await self.close()

    async def close(self) -> None:
        """Leave the session and end the connection with all that belongs to it."""
        if self._closing:
            return
        self._closing = True
        self.session.detach(self)
        self._sound.stop()
        self._images.stop()
        others = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._connection.close()
        self.closed = True
        self._left(self)


def configuration(ice: Sequence[IceServer]) -> RTCConfiguration:
    """aiortc's configuration with these servers, of which it uses the first STUN and the first TURN address."""
    servers = [RTCIceServer(one.urls, one.username, one.credential) for one in ice]
    return RTCConfiguration(iceServers=servers)  # None would ask a public server


def _mono(packet: AudioFrame) -> np.ndarray:
    """Samples of a packet, float32 mono in [-1, 1]."""
    samples = packet.to_ndarray()
    if packet.format.is_packed:
        samples = samples.reshape(-1, packet.layout.nb_channels).T
    return (samples.mean(0) / 32768.0).astype(np.float32)


class Offer(BaseModel):
    """What a client sends to ``/v1/offer``."""

    sdp: str = Field(max_length=60_000)
    type: Literal["offer"]
    avatar: str | None = Field(None, max_length=200)
    resume: str | None = Field(None, max_length=100)
    secret: str = Field("", max_length=100)


def webrtc_router(ice: Sequence[IceServer] = ()) -> APIRouter:
    """``POST /v1/offer`` and ``GET /v1/ice`` for the application (:func:`~emotalking.serve.app.make_app`).

    Args:
        ice: STUN and TURN servers for both sides; none: nobody is asked, and clients reach the machine's own addresses.
    """
    peers: set[Peer] = set()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.gather(*(peer.close() for peer in list(peers)))

    router = APIRouter(lifespan=lifespan)

    @router.get("/v1/ice")
    def servers() -> dict[str, object]:
        return {"iceServers": [one.model_dump(exclude_none=True) for one in ice]}

    @router.post("/v1/offer")
    async def answer(offer: Offer, request: Request) -> dict[str, str]:
        scheduler: Scheduler = request.app.state.scheduler
        session = await _session(offer, request, scheduler)
        resumed = offer.resume is not None
        settings: ServeSettings = request.app.state.settings
        peer = Peer(session, scheduler, settings, resumed=resumed, ice=ice, left=peers.discard)
        peers.add(peer)
        try:
            description = await peer.answer(offer.sdp)
        except InputError:
            if not resumed:
                scheduler.close(session, "its offer could not be answered")
            raise
        return {"type": "answer", "sdp": description, "session": session.id, "secret": session.secret}

    return router


async def _session(offer: Offer, request: Request, scheduler: Scheduler) -> Session:
    """The session that a client comes back to, or a new one."""
    if offer.resume is not None:
        found = scheduler.find(offer.resume, offer.secret)
        if found is None:
            raise HTTPException(404, "this session has ended: open a new one.")
        return found
    address = "" if request.client is None else request.client.host
    try:
        return await asyncio.get_running_loop().run_in_executor(
            scheduler.workers, scheduler.open, offer.avatar, address
        )
    except LimitError as error:
        scheduler.metrics.refused.labels("limit").inc()
        raise HTTPException(503, str(error)) from error
