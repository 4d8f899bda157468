"""A face for OpenAI's Realtime interface: python openai_realtime.py AVATAR [ADDRESS] (secret in OPENAI_API_KEY).

Sound comes faster than it is spoken. When the user speaks, the head is silent at once, and the server is told how much
was heard, so that the model knows it too. The microphone is this machine's (`pip install 'emotalking[talk]'`), head and
sound are in the page whose address is printed.
"""

import asyncio
import base64
import json
import os
import sys
from collections.abc import AsyncIterable, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import soxr

from emotalking.player.streaming import PlaybackPosition
from emotalking.serve.session import Session

RATE = 24000
"""Hz of the sound both ways, 16-bit mono."""
ADDRESS = "wss://api.openai.com/v1/realtime?model=gpt-realtime"


@dataclass
class Item:
    """One answer of the model."""

    name: str
    content: int
    utterance: int | None = None
    samples: int = 0


class RealtimeHead:
    """Says what the server sends, and tells it what was heard.

    Args:
        session: the head.
        send: sends an event to the server.
    """

    def __init__(self, session: Session, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        self._session, self._send = session, send
        self._items: list[Item] = []

    async def handle(self, event: dict[str, Any]) -> None:
        """Apply an event of the server."""
        match event["type"]:
            case "response.output_audio.delta" | "response.audio.delta":
                await self._say(event)
            case "response.output_audio.done" | "response.audio.done":
                await asyncio.to_thread(self._session.flush)
            case "input_audio_buffer.speech_started":
                await self._interrupt()
            case "error":
                print(f"the server says: {event['error'].get('message')}", file=sys.stderr)

    async def _say(self, event: dict[str, Any]) -> None:
        samples = np.frombuffer(base64.b64decode(event["delta"]), "<i2").astype(np.float32) / 32768
        if not self._items or self._items[-1].name != event["item_id"]:
            self._items = [*self._items[-8:], Item(event["item_id"], event.get("content_index", 0))]
        item = self._items[-1]
        item.samples += len(samples)
        item.utterance = await asyncio.to_thread(self._session.push, samples, RATE)

    async def _interrupt(self) -> None:
        heard: PlaybackPosition | None = await asyncio.to_thread(self._session.clear)
        if heard is None:
            return
        for item in self._items:
            if item.utterance is not None and item.utterance >= heard.utterance:
                position = heard.seconds if item.utterance == heard.utterance else 0.0
                await self._send(
                    {
                        "type": "conversation.item.truncate",
                        "item_id": item.name,
                        "content_index": item.content,
                        "audio_end_ms": int(1000 * min(position, item.samples / RATE)),
                    }
                )
        self._items.clear()

    async def listen(self, chunks: AsyncIterable[np.ndarray], rate: int) -> None:
        """Send the sound of a microphone, float32 mono."""
        resampler = soxr.ResampleStream(rate, RATE, 1, dtype="float32")
        async for chunk in chunks:
            samples = (np.clip(resampler.resample_chunk(chunk), -1, 1) * 32767).astype("<i2").tobytes()
            if samples:
                await self._send({"type": "input_audio_buffer.append", "audio": base64.b64encode(samples).decode()})


async def converse(session: Session, address: str, key: str, microphone: AsyncIterable[np.ndarray], rate: int) -> None:
    """Connect to the server and talk until it closes the connection."""
    from websockets.asyncio.client import connect

    headers = {"Authorization": f"Bearer {key}"}
    async with connect(address, additional_headers=headers, max_size=None) as socket:

        async def send(event: dict[str, Any]) -> None:
            await socket.send(json.dumps(event))

        head = RealtimeHead(session, send)
        speaking = asyncio.create_task(head.listen(microphone, rate))
        try:
            async for message in socket:
                await head.handle(json.loads(message))
        finally:
            speaking.cancel()


async def in_threads(chunks: Any) -> Any:
    """An iterator that waits, as one of the event loop."""
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        yield chunk


def main(avatar: str, address: str = ADDRESS) -> None:
    """Serve the page, and connect its head with the model."""
    import emotalking
    from emotalking.io.audio import SAMPLE_RATE
    from emotalking.serve.microphone import microphone

    with emotalking.serve([avatar]) as server:
        session = server.own_session()
        server.start()
        print(f"open {server.link}")
        key = os.environ.get("OPENAI_API_KEY", "")
        asyncio.run(converse(session, address, key, in_threads(microphone()), SAMPLE_RATE))


if __name__ == "__main__":
    main(*sys.argv[1:])
