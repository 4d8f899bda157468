"""uvicorn's connections with limits: on their number, and on the time until a request has come."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from emotalking.serve.websocket import ABORT

MOST_CONNECTIONS = 512
"""Connections at a time."""
_REQUEST_S = 10.0
"""Time until a request's headers have come."""
SEND_BUFFER = 256 << 10
"""Bytes that the system takes for a client that does not read them: what waits there is old when it is shown."""


class Connection(H11Protocol):
    """An HTTP connection that is dropped if it asks for nothing, or where there are too many."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take or drop a new connection."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        """Read what came; the time runs while a request has begun and its headers are not whole."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._forget_deadline()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Let the time for a request's headers run, or not while one is answered or the connection is a WebSocket."""
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering or self.transport.is_closing() or self.transport.get_protocol() is not self:
            self._forget_deadline()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(_REQUEST_S, self.transport.abort)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class Socket(WebSocketsSansIOProtocol):
    """A WebSocket that the application can drop (:data:`emotalking.serve.websocket.ABORT`)."""

    scope: Any

    def handle_connect(self, event: Request) -> None:
        """Begin the application, which first runs when this has returned."""
        super().handle_connect(event)
        if self.handshake_initiated and not self.close_sent:
            self.scope["extensions"][ABORT] = self.transport.abort
