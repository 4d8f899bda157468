"""Attacks on the live server, and what came of each."""

import asyncio
import http.client
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress

from _live import TOKEN, Process, opened
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from emotalking.serve.protocol import SUBPROTOCOL

PATHS = ("/../../etc/passwd", "/..%2f..%2fetc%2fpasswd", "/v1/avatars/..%2f..%2fetc%2fpasswd/image", "//etc/passwd")


async def attack(process: Process) -> list[dict[str, str]]:
    """Every attack in turn, while one honest session goes on; rows of a table."""
    honest, reading = await opened(process)
    rows = []
    attacks: list[tuple[str, Callable[[Process], Awaitable[str]]]] = [
        ("page of another site opens a WebSocket", lambda one: _handshake(one, origin="https://evil.example")),
        ("page of another site reads the avatars", lambda one: _get(one, origin="https://evil.example")),
        ("name of another host (DNS rebinding)", lambda one: _get(one, host="evil.example")),
        ("no token", lambda one: _get(one, token=None)),
        ("wrong token in the handshake", lambda one: _handshake(one, token="wrong-token")),
        *[(f"GET {path}", lambda one, path=path: _get(one, path)) for path in PATHS],
        ("request with a header of 1 MB", lambda one: _raw(one, b"GET / HTTP/1.1\r\nA: " + b"a" * (1 << 20))),
        ("bytes that are no request", lambda one: _raw(one, bytes(range(256)) * 100)),
        ("message of 64 MB", lambda one: _messages(one, [bytes(64 << 20)])),
        ("seven messages that are no JSON", lambda one: _messages(one, ["{" * 1000] * 7)),
        ("sound without its format", lambda one: _messages(one, [bytes(1001)] * 7)),
        ("30,000 nested lists", lambda one: _messages(one, ["[" * 30_000] * 7)),
        ("20,000 messages at once", lambda one: _messages(one, ['{"type":"ping","t":1}'] * 20_000)),
        ("an hour of sound at once", _hour),
        ("reader that never reads", _never_reads),
        ("1,000 clients that vanish", _vanishing),
        ("1,000 connections that ask for nothing", _silent),
    ]
    for name, begin in attacks:
        before, seen = process.memory_mb(), len(honest.frames)
        started = time.perf_counter()
        try:
            outcome = await asyncio.wait_for(begin(process), 180)
        except TimeoutError:
            outcome = "NO ANSWER IN 180 s"
        seconds = time.perf_counter() - started
        await asyncio.sleep(1.0)
        health = await asyncio.to_thread(process.get, "/health")
        alive = "goes on" if len(honest.frames) > seen and b'"ok"' in health else "STOPPED"
        more = process.memory_mb() - before
        rows.append(
            {
                "attack": name,
                "outcome": outcome,
                "seconds": f"{seconds:.2f}",
                "honest_session": alive,
                "memory_mb": f"{more:+.1f}",
            }
        )
    await honest.socket.close()
    await reading
    return rows


async def _get(
    process: Process, path: str = "/v1/avatars", host: str = "", origin: str = "", token: str | None = TOKEN
) -> str:
    headers = {"Host": host or f"127.0.0.1:{process.port}"} | ({"Origin": origin} if origin else {})
    headers |= {} if token is None else {"Authorization": f"Bearer {token}"}

    def ask() -> str:
        connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=60)
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return f"status {answer.status}"

    return await asyncio.to_thread(ask)


async def _handshake(process: Process, origin: str | None = None, token: str = TOKEN) -> str:
    try:
        await connect(
            f"ws://127.0.0.1:{process.port}/v1/session",
            subprotocols=[SUBPROTOCOL, f"token.{token}"],  # type: ignore[list-item]
            origin=origin,  # type: ignore[arg-type]
        )
    except InvalidStatus as refused:
        return f"status {refused.response.status_code}"
    return "TAKEN"


async def _raw(process: Process, data: bytes) -> str:
    def send() -> str:
        with socket.create_connection(("127.0.0.1", process.port), 60) as raw:
            with suppress(OSError):
                raw.sendall(data)
            with suppress(OSError):
                return raw.recv(100).split(b"\r\n")[0].decode() or "closed"
            return "closed"

    return await asyncio.to_thread(send)


async def _messages(process: Process, messages: list[str] | list[bytes]) -> str:
    client, reading = await opened(process)
    try:
        for message in messages:
            await client.socket.send(message)
        await asyncio.wait_for(client.socket.wait_closed(), 60)
    except (ConnectionClosed, OSError):
        pass
    except TimeoutError:
        return "KEPT"
    await reading
    return f"closed with code {client.socket.close_code}"


async def _hour(process: Process) -> str:
    client, reading = await opened(process)
    await client.send("audio", sample_rate=48000, format="s16")
    for _ in range(360):
        await client.socket.send(bytes(10 * 48000 * 2))
    await client.until("error", 0)
    said = next(event["message"] for _, event in client.events if event["type"] == "error")
    await client.socket.close()
    await reading
    return f"error: {said}"


async def _never_reads(process: Process) -> str:
    before = process.metrics()
    with socket.create_connection(("127.0.0.1", process.port), 60) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lines = (
            f"GET /v1/session HTTP/1.1\r\nHost: 127.0.0.1:{process.port}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Protocol: {SUBPROTOCOL}, token.{TOKEN}\r\n\r\n"
        )
        raw.sendall(lines.encode())
        for second in range(120):
            await asyncio.sleep(1.0)
            now = await asyncio.to_thread(process.metrics)
            name = 'emotalking_requests_refused_total{reason="slow"}'
            if now.get(name, 0) > before.get(name, 0):
                return f"session ended after {second + 1} s"
    return "KEPT FOR 120 s"


async def _vanishing(process: Process) -> str:
    threads, files = process.threads(), process.files()
    for _ in range(1000):
        client, reading = await opened(process)
        client.socket.transport.abort()
        await reading
    await asyncio.sleep(35.0)
    now = await asyncio.to_thread(process.metrics)
    more = f"{process.threads() - threads:+d} threads, {process.files() - files:+d} files"
    return f"{now['emotalking_sessions']:.0f} session left, {more}"


async def _silent(process: Process) -> str:
    with ExitStack() as stack:
        opened_sockets = []
        for _ in range(1000):
            with suppress(OSError):
                opened_sockets.append(stack.enter_context(socket.create_connection(("127.0.0.1", process.port), 10)))
        await asyncio.sleep(12.0)
        left = 0
        for one in opened_sockets:
            one.setblocking(False)
            try:
                left += one.recv(1) != b""
            except BlockingIOError:
                left += 1
            except OSError:
                pass
    return f"{left} of {len(opened_sockets)} left after 12 s"
