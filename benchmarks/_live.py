"""Common parts of the live server's benchmark: the server as a process, and a client that speaks and measures."""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect

from emotalking.serve.protocol import SUBPROTOCOL, ReceivedFrame, unpack_frame

RATE = 48000
CHUNK_S = 0.02
"""Sound of a message, as microphones give it."""
TOKEN = "token-of-the-benchmark"


@dataclass
class Process:
    """A running server."""

    number: int
    port: int

    def memory_mb(self) -> float:
        return self._status("VmRSS") / 1024

    def threads(self) -> int:
        return self._status("Threads")

    def files(self) -> int:
        return len(os.listdir(f"/proc/{self.number}/fd"))

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.number}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _status(self, name: str) -> int:
        lines = Path(f"/proc/{self.number}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))

    def get(self, path: str, headers: dict[str, str] | None = None) -> bytes:
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers or {})
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.read()

    def metrics(self) -> dict[str, float]:
        page = self.get("/metrics", {"Authorization": f"Bearer {TOKEN}"}).decode()
        rows = (line.rsplit(" ", 1) for line in page.splitlines() if line and line[0] != "#")
        return {name: float(value) for name, value in rows}


@contextmanager
def running(avatar: Path, device: str, sessions: int, *options: str) -> Iterator[Process]:
    """The command ``emotalking serve`` on a free port."""
    command = [sys.executable, "-m", "emotalking", "serve", str(avatar), "--port", "0", "--token", TOKEN]
    command += ["--device", device, "--max-sessions", str(sessions), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = ""
        while (found := re.search(r"http://127\.0\.0\.1:(\d+)/", said)) is None:
            line = process.stderr.readline()
            if not line:
                raise SystemExit(f"the server did not start:\n{said}")
            said += line
        try:
            yield Process(process.pid, int(found[1]))
        finally:
            process.terminate()
            process.communicate(timeout=60)
            if process.returncode != 0:
                raise SystemExit(f"the server ended with {process.returncode}")


@dataclass
class Listener:
    """One session's client: reads all the time and notes when what came."""

    socket: ClientConnection
    hello: dict[str, Any] = field(default_factory=dict)
    frames: list[tuple[float, ReceivedFrame]] = field(default_factory=list)
    """Without their images' bytes, which nobody needs, and when they came."""
    events: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)
    code: int = 0

    async def listen(self) -> None:
        """Read until the connection ends."""
        async for message in self.socket:
            now = time.perf_counter()
            async with self.news:
                if isinstance(message, str):
                    event = json.loads(message)
                    self.events.append((now, event))
                    self.hello = event if event["type"] == "hello" else self.hello
                else:
                    frame = unpack_frame(message)
                    self.frames.append((now, frame._replace(image=b"")))
                self.news.notify_all()

    async def send(self, type: str, **values: object) -> None:
        await self.socket.send(json.dumps({"type": type, **values}))

    async def until(self, type: str, since: int) -> tuple[float, dict[str, Any]]:
        """The first event of a type among those from number ``since`` on."""
        while True:
            for when, event in self.events[since:]:
                if event["type"] == type:
                    return when, event
            async with self.news:
                await asyncio.wait_for(self.news.wait(), 60)

    async def speak(self, sound: np.ndarray) -> float:
        """Send sound as a microphone does, and end the utterance; when its first sample was taken."""
        await self.send("audio", sample_rate=RATE, format="s16")
        began, count = time.perf_counter(), round(CHUNK_S * RATE)
        for number, start in enumerate(range(0, len(sound), count), 1):
            await asyncio.sleep(max(0.0, began + number * CHUNK_S - time.perf_counter()))
            await self.socket.send(sound[start : start + count].astype("<i2").tobytes())
        await self.send("flush")
        return began


async def opened(process: Process, query: str = "") -> tuple[Listener, asyncio.Task[None]]:
    """A client that has been greeted, and its reading."""
    address = f"ws://127.0.0.1:{process.port}/v1/session?{query}"
    protocols = [SUBPROTOCOL, f"token.{TOKEN}"]
    socket = await connect(address, subprotocols=protocols, max_size=None, compression=None, open_timeout=120)  # type: ignore[list-item]
    listener = Listener(socket)
    reading = asyncio.create_task(_quietly(listener))
    await listener.until("hello", 0)
    return listener, reading


async def _quietly(listener: Listener) -> None:
    try:
        await listener.listen()
    except OSError:
        pass  # a client that vanished on purpose
    except Exception as error:
        if "ConnectionClosed" not in type(error).__name__:
            raise


def noise(seconds: float, seed: int) -> np.ndarray:
    """Sound that no other session has, int16: noise under the envelope of syllables."""
    time_s = np.arange(round(seconds * RATE)) / RATE
    envelope = np.clip(np.sin(2 * np.pi * 3 * time_s), 0.05, None)
    return np.round(6000 * envelope * np.random.default_rng(seed).standard_normal(len(time_s))).clip(-32000, 32000)


def said(listener: Listener, utterance: int) -> np.ndarray:
    """Received sound of an utterance."""
    return np.concatenate([np.zeros(0)] + [frame.audio for _, frame in listener.frames if frame.utterance == utterance])


def quantiles(values: list[float]) -> dict[str, float] | None:
    """Median, 99th percentile and largest of milliseconds; None of none."""
    if not values:
        return None
    return {
        "median": round(float(np.median(values)), 1),
        "p99": round(float(np.quantile(values, 0.99)), 1),
        "largest": round(max(values), 1),
        "count": len(values),
    }
