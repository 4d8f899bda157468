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
            self._deadline = self.loop.call_later(_REQUEST_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Read what came; with the first whole request the deadline ends."""
        super().data_received(data)
        if self._deadline is not None and self.scope is not None:
            self._deadline.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)


class Socket(WebSocketsSansIOProtocol):
    """A WebSocket that the application can drop (:data:`emotalking.serve.websocket.ABORT`)."""

    scope: Any

    def handle_connect(self, event: Request) -> None:
        """Begin the application, which first runs when this has returned."""
        super().handle_connect(event)
        if self.handshake_initiated and not self.close_sent:
            self.scope["extensions"][ABORT] = self.transport.abort
