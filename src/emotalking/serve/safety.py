"""What stands before the application: host, origin, token, size of requests, and headers of every response."""

import hmac
import re
import socket
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emotalking.serve.metrics import Metrics
from emotalking.serve.settings import ServeSettings

TOKEN_PROTOCOL = "token."
"""Prefix of the subprotocol that carries the token: browsers send no other header with a WebSocket."""
BEHIND_TOKEN = ("/v1/", "/metrics")
"""Paths that need the token; the page's own files and /health do not."""
LONGEST_BODY = 64 << 10
LARGE_BODIES = ("/v1/jobs",)
"""Paths whose handlers bound the body of a request themselves."""
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]\s]+)(?::\d{1,5})?")
HEADERS = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob: mediastream:; connect-src 'self' ws: "
        "wss:; worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(self)",
    "referrer-policy": "no-referrer",
    "x-content-synthetic": "true",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""Of every response; ``x-content-synthetic``: what this server shows is no recording of a person."""


class Guard:
    """ASGI middleware that refuses requests before the application sees them.

    A page elsewhere can give its own name our address (DNS rebinding), so only known names and plain addresses are
    answered; and it can open WebSockets to any address, so a browser's origin must be the server itself.

    Args:
        app: the application.
        settings: names, token.
        metrics: where refusals are counted.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics
        own = {"localhost"} if settings.local else {"localhost", socket.gethostname().lower()}
        self._names = own | {name.lower() for name in settings.allowed_hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request or a connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, _bounded(receive) if _small(scope) else receive, _with_headers(send))
            return
        status, why, sentence = refusal
        self._metrics.refused.labels(why).inc()
        await _refuse(scope, _with_headers(send), status, sentence)

    def _refusal(self, scope: Scope) -> tuple[HTTPStatus, str, str] | None:
        headers = Headers(scope=scope)
        found = _HOST.fullmatch(headers.get("host", ""))
        if found is None or not self._answers_to(found[1].lower()):
            sentence = "this server does not answer to this name: add it to the allowed hosts"
            return HTTPStatus.MISDIRECTED_REQUEST, "host", sentence
        origin = headers.get("origin")
        if origin is not None and not self._own_origin(origin, headers["host"].lower()):
            return HTTPStatus.FORBIDDEN, "origin", "pages of other sites may not use this server"
        if scope["path"].startswith(BEHIND_TOKEN) and not self._knows_token(scope, headers):
            return HTTPStatus.UNAUTHORIZED, "token", "the token is missing or wrong"
        length = headers.get("content-length", "0")
        if _small(scope) and not (length.isascii() and length.isdecimal() and int(length[:12]) <= LONGEST_BODY):
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body", f"at most {LONGEST_BODY} bytes are taken here"
        return None

    def _answers_to(self, host: str) -> bool:
        if host in self._names:
            return True
        try:
            address = ip_address(host.strip("[]"))
        except ValueError:
            return False
        return address.is_loopback if self._settings.local else True

    def _own_origin(self, origin: str, host: str) -> bool:
        scheme, _, place = origin.lower().partition("://")
        if scheme not in ("http", "https"):
            return False
        name = _HOST.fullmatch(place)
        return place == host or (name is not None and name[1] in {one.lower() for one in self._settings.allowed_hosts})

    def _knows_token(self, scope: Scope, headers: Headers) -> bool:
        token = self._settings.token
        if token is None:
            return True
        kind, _, given = headers.get("authorization", "").partition(" ")
        offered = [given.strip()] if kind.lower() == "bearer" else []
        offered += [name[len(TOKEN_PROTOCOL) :] for name in scope.get("subprotocols", ()) if name[:6] == TOKEN_PROTOCOL]
        return any([hmac.compare_digest(token.encode(), one.encode("utf-8", "replace")) for one in offered])


def _small(scope: Scope) -> bool:
    return scope["type"] == "http" and not scope["path"].startswith(LARGE_BODIES)


def _bounded(receive: Receive) -> Receive:
    """``receive`` that ends a body without a stated length when it becomes too long."""
    taken = 0

    async def bounded() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        return {"type": "http.disconnect"} if taken > LONGEST_BODY else message

    return bounded


def _with_headers(send: Send) -> Send:
    """``send`` that adds ``HEADERS`` where the response has none of the name."""

    async def adding(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return adding


async def _refuse(scope: Scope, send: Send, status: HTTPStatus, sentence: str) -> None:
    kind = "http" if scope["type"] == "http" else "websocket.http"
    body = f"{sentence}\n".encode()
    headers: Iterable[tuple[bytes, bytes]] = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": f"{kind}.response.start", "status": int(status), "headers": list(headers)})
    await send({"type": f"{kind}.response.body", "body": body})


class Allowance:
    """A rate with bursts (token bucket).

    Args:
        per_s: messages per second.
        burst_s: seconds' worth that may come at once.
        clock: seconds, ever rising.
    """

    def __init__(self, per_s: float, burst_s: float = 4.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._most, self._clock = per_s, per_s * burst_s, clock
        self._left, self._at = self._most, clock()

    def take(self) -> bool:
        """True if one more may come now."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
