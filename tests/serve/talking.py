"""A stand-in for an avatar, a server with it on a free port, and a client."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from emotalking.serve.protocol import SUBPROTOCOL, ReceivedFrame, unpack_frame
from emotalking.serve.server import LiveServer
from emotalking.serve.settings import ServeSettings

from ..avatars import Frames, PlainAvatar

RATE = 48000
LONG_S = 60.0
"""Patience with a busy machine; nothing waits for so long."""


class FakeAvatar(PlainAvatar):
    """A red disc whose green is the valence; 50 frames a second."""

    def __init__(self, size: int = 32, fps: Fraction = Fraction(50), noise: bool = False) -> None:
        super().__init__(size, size, fps, 20)
        if noise:
            self.background = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
        self.batches: list[int] = []
        self.broken = False

    def render(self, viewmats, audio_windows, aus, va=None, background=None, speech=None) -> Frames:
        if self.broken:
            raise RuntimeError("a renderer that does not work")
        self.batches.append(len(viewmats))
        alpha = self.disc(self.width / 2, self.width / 2, self.width / 4).expand(len(viewmats), -1, -1)
        return self.composed(alpha, 1.0, va, background)


@contextmanager
def serving(avatars: dict[str, Any] | None = None, **settings: Any) -> Iterator[LiveServer]:
    """A started server."""
    with LiveServer(avatars or {"disc": FakeAvatar()}, ServeSettings(port=0, **settings)) as server:
        server.start()
        yield server


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    end = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


async def become(condition: Callable[[], object]) -> None:
    """Wait for a condition as :func:`until` does, in a loop of events."""
    async with asyncio.timeout(LONG_S):
        while not condition():
            await asyncio.sleep(0.01)


@dataclass
class Client:
    """Reads and keeps all that a server sends."""

    socket: ClientConnection
    frames: list[ReceivedFrame] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    def send(self, type: str, **values: object) -> None:
        self.socket.send(json.dumps({"type": type, **values}))

    def speak(self, samples: np.ndarray, rate: int = RATE, *, flush: bool = True) -> None:
        """Push int16 samples in messages of 100 ms."""
        self.send("audio", sample_rate=rate, format="s16")
        for start in range(0, len(samples), rate // 10):
            self.socket.send(samples[start : start + rate // 10].astype("<i2").tobytes())
        if flush:
            self.send("flush")

    def read(self) -> dict[str, Any] | ReceivedFrame:
        message = self.socket.recv(LONG_S)
        if isinstance(message, str):
            event = json.loads(message)
            self.events.append(event)
            return event
        self.frames.append(unpack_frame(message))
        return self.frames[-1]

    def event(self, type: str) -> dict[str, Any]:
        """Read until an event comes."""
        while True:
            read = self.read()
            if isinstance(read, dict) and read["type"] == type:
                return read

    def frame(self, test: Callable[[ReceivedFrame], bool] = lambda frame: True) -> ReceivedFrame:
        """Read until a frame comes that passes a test."""
        while True:
            read = self.read()
            if isinstance(read, ReceivedFrame) and test(read):
                return read

    def code(self) -> int:
        """Read until the connection is closed; the code of closing."""
        try:
            while True:
                self.read()
        except ConnectionClosed as closed:
            return 1006 if closed.rcvd is None else closed.rcvd.code

    def vanish(self) -> None:
        """Break the connection without a word."""
        self.socket.socket.shutdown(2)
        self.socket.socket.close()

    def said(self, utterance: int | None = None) -> np.ndarray:
        """All sound of utterances, or of one, as it was received."""
        wanted = [one.audio for one in self.frames if one.utterance and utterance in (None, one.utterance)]
        return np.concatenate([np.zeros(0, np.int16), *wanted])


@contextmanager
def client(server: LiveServer, query: str = "", **options: Any) -> Iterator[Client]:
    """A client; it reads on while nobody asks, without which closing waits for 10 s."""
    options = {
        "subprotocols": [SUBPROTOCOL],
        "max_queue": None,
    } | options
    with connect(f"ws://127.0.0.1:{server.port}/v1/session?{query}", **options) as socket:
        yield Client(socket)


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise, int16, in whole frames of 50 Hz."""
    return np.random.default_rng(seed).integers(-9000, 9000, round(seconds * RATE), np.int16)
