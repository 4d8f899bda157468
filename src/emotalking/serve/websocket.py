"""A session over a WebSocket (docs/live.md): messages in, frames and events out."""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import ParamSpec, TypeVar

import numpy as np
from fastapi import WebSocket, WebSocketDisconnect
from starlette.responses import PlainTextResponse

from emotalking.errors import InputError
from emotalking.player.streaming import LiveFrame
from emotalking.serve.encoding import encode
from emotalking.serve.metrics import Metrics
from emotalking.serve.protocol import SUBPROTOCOL, Conversation, hello, pack_frame
from emotalking.serve.scheduler import LimitError, Scheduler
from emotalking.serve.session import Session
from emotalking.serve.settings import ServeSettings
from emotalking.serve.sinks import Event
from emotalking.serve.speech import Voice

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

WAITING_IMAGES = 2
"""Frames with images that wait to be sent; of older ones the sound alone is kept."""
WAITING_S = 5.0
"""Sound that waits to be sent to a slow reader, in seconds; then its session ends."""
_WAITING_EVENTS = 200
ABORT = "emotalking.abort"
"""ASGI extension: a function that drops the connection without waiting for what it has not read."""
_CLOSE_S = 5.0
"""Time for the closing handshake; then the connection is dropped."""
NORMAL, GOING_AWAY, POLICY, TRY_LATER, NOT_FOUND = 1000, 1001, 1008, 1013, 4404
"""Codes of closing."""


class WebSocketSink:
    """Sends a session's frames and events to one WebSocket (:class:`~emotalking.serve.sinks.Sink`)."""

    def __init__(self, socket: WebSocket, conversation: Conversation, encoders: Executor, metrics: Metrics) -> None:
        self._socket, self._conversation = socket, conversation
        self._encoders, self._metrics = encoders, metrics
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[LiveFrame | Event] = deque()
        self._more = asyncio.Event()
        self.too_slow = asyncio.Event()
        """Set when the client reads so slowly that its session is to end."""

    def frame(self, frame: LiveFrame) -> None:
        """Queue a frame."""
        self._call(self._add_frame, frame)

    def event(self, event: Event) -> None:
        """Queue an event."""
        self._call(self._add_event, event)

    def _call(self, add: Callable[[T], None], item: T) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(add, item)

    def _add_frame(self, frame: LiveFrame) -> None:
        self._waiting.append(frame)
        images = [place for place, item in enumerate(self._waiting) if _has_image(item)]
        for place in images[:-WAITING_IMAGES]:
            item = self._waiting[place]
            assert isinstance(item, LiveFrame)
            self._waiting[place] = replace(item, image=None)
            self._metrics.dropped.labels("network").inc()
            self._conversation.session.dropped += 1
        self._noticed()

    def _add_event(self, event: Event) -> None:
        if event["type"] == "cleared":  # frames of before are not to be shown any more
            self._waiting = deque(item for item in self._waiting if not isinstance(item, LiveFrame))
        self._waiting.append(event)
        self._noticed()

    def _noticed(self) -> None:
        self._more.set()
        if len(self._waiting) > WAITING_S * float(self._conversation.session.player.avatar.fps) + _WAITING_EVENTS:
            self.too_slow.set()

    async def run(self) -> str:
        """Send until the session says bye; gives its reason."""
        while True:
            while not self._waiting:
                self._more.clear()
                await self._more.wait()
            item = self._waiting.popleft()
            if isinstance(item, LiveFrame):
                await self._socket.send_bytes(await self._loop.run_in_executor(self._encoders, self._packed, item))
                if (began := self._conversation.session.sent(item)) is not None:
                    self._metrics.first_frame.observe(began)
            else:
                await self._socket.send_text(json.dumps(item, separators=(",", ":")))
                if item["type"] == "bye":
                    return str(item["reason"])

    def _packed(self, frame: LiveFrame) -> bytes:
        if frame.image is None:
            return pack_frame(frame, b"", "none")
        wanted = self._conversation.image
        data, kind = encode(np.asarray(frame.image), wanted.format, wanted.quality)
        return pack_frame(frame, data, kind)


def _has_image(item: LiveFrame | Event) -> bool:
    return isinstance(item, LiveFrame) and item.image is not None


class SessionSocket:
    """The endpoint ``/v1/session``.

    Args:
        scheduler: of the sessions.
        settings: limits.
    """

    def __init__(self, scheduler: Scheduler, settings: ServeSettings) -> None:
        self._scheduler, self._settings = scheduler, settings

    async def serve(self, socket: WebSocket) -> None:
        """Serve one connection, from the handshake until it is closed."""
        if SUBPROTOCOL not in socket.scope["subprotocols"]:
            self._scheduler.metrics.refused.labels("subprotocol").inc()
            await socket.send_denial_response(
                PlainTextResponse(f"ask for the subprotocol {SUBPROTOCOL}\n", status_code=400)
            )
            return
        await socket.accept(SUBPROTOCOL)
        try:
            session, resumed = await self._opened(socket)
        except InputError as error:
            full = isinstance(error, LimitError)
            self._scheduler.metrics.refused.labels("limit" if full else "avatar").inc()
            await socket.send_json({"type": "error", "message": str(error)})
            await self._close(socket, TRY_LATER if full else NOT_FOUND, str(error))
            return
        try:
            await self._converse(socket, session, resumed)
        except (WebSocketDisconnect, OSError):
            pass  # the session waits for its client

    async def _opened(self, socket: WebSocket) -> tuple[Session, bool]:
        """The session that a client comes back to, or a new one."""
        asked = socket.query_params
        if (identity := asked.get("resume")) is not None:
            found = self._scheduler.find(identity, asked.get("secret", ""))
            if found is None:
                raise InputError("this session has ended: open a new one.")
            return found, True
        address = "" if socket.client is None else socket.client.host
        return await self._off_loop(self._scheduler.open, asked.get("avatar"), address), False

    async def _converse(self, socket: WebSocket, session: Session, resumed: bool) -> None:
        """Read and send until the client leaves, the session ends, or the client is to leave."""
        voice = Voice(session, self._scheduler.speakers)
        conversation = Conversation(session, voice.say, self._settings.messages_per_s)
        sink = WebSocketSink(socket, conversation, self._scheduler.encoders, self._scheduler.metrics)
        sink.event(hello(session, self._settings, resumed))
        session.attach(sink, alone=True)
        self._scheduler.wake()
        reader = asyncio.create_task(self._read(socket, conversation, sink))
        writer = asyncio.create_task(sink.run())
        slow = asyncio.create_task(sink.too_slow.wait())
        try:
            await asyncio.wait((reader, writer, slow), return_when=asyncio.FIRST_COMPLETED)
        finally:
            own = session.detach(sink)
            for task in (reader, writer, slow):
                task.cancel()
            await asyncio.gather(reader, writer, slow, return_exceptions=True)
        if slow.done() and not slow.cancelled():
            self._scheduler.metrics.refused.labels("slow").inc()
            self._scheduler.leave(session, "the client reads too slowly")
            socket.scope["extensions"][ABORT]()
        elif reader.done() and not reader.cancelled() and reader.exception() is None:
            if own and reader.result() in (NORMAL, GOING_AWAY, POLICY):
                self._scheduler.leave(session, "the client has left")
            if reader.result() == POLICY:
                await self._close(socket, POLICY, "too many malformed messages")
        elif writer.done() and not writer.cancelled() and writer.exception() is None:
            await self._close(socket, GOING_AWAY if self._scheduler.stopping else NORMAL, writer.result())

    async def _read(self, socket: WebSocket, conversation: Conversation, sink: WebSocketSink) -> int:
        """Apply messages one after the other; gives the code of closing."""
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return int(message.get("code", 0))
            text: str | None = message.get("text")
            if not await self._off_loop(conversation.take, message["bytes"] if text is None else text, sink.event):
                self._scheduler.metrics.refused.labels("malformed").inc()
                return POLICY

    async def _off_loop(self, function: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
        """Call in a worker: a session may be in use by the render thread for some milliseconds."""
        call = partial(function, *arguments, **named)
        return await asyncio.get_running_loop().run_in_executor(self._scheduler.workers, call)

    async def _close(self, socket: WebSocket, code: int, reason: str) -> None:
        asyncio.get_running_loop().call_later(_CLOSE_S, socket.scope["extensions"][ABORT])
        with suppress(RuntimeError):  # closed by the client meanwhile
            await socket.close(code, reason.encode()[:120].decode(errors="ignore"))
