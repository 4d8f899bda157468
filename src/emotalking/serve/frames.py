"""Frames of a session for programs with an event loop."""

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import replace

from emotalking.player.streaming import LiveFrame
from emotalking.serve.sinks import Event

_WAITING_IMAGES = 2
"""Frames with images that wait to be taken; of older ones the sound alone is kept."""
_WAITING_S = 1.0
"""Sound that waits to be taken; older sound is dropped."""


class AsyncFrames:
    """A sink to iterate over in an event loop: each frame when it is due, by the session's clock.

    A reader that is late loses images, and sound after a second; of a speech that was interrupted nothing comes.

    Example:
        >>> frames = AsyncFrames()
        >>> session.attach(frames)
        >>> async for frame in frames:  # until the session ends
        ...     await show(frame.image, frame.audio)
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[LiveFrame] = deque()
        self._more = asyncio.Event()
        self._ended = False

    def frame(self, frame: LiveFrame) -> None:
        """See :class:`~emotalking.serve.sinks.Sink`."""
        with suppress(RuntimeError):  # of a loop that has ended meanwhile
            self._loop.call_soon_threadsafe(self._add, frame)

    def event(self, event: Event) -> None:
        """See :class:`~emotalking.serve.sinks.Sink`."""
        if event["type"] == "bye":
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self.close)

    def close(self) -> None:
        """End the iteration, after the frames that wait."""
        self._ended = True
        self._more.set()

    def _add(self, frame: LiveFrame) -> None:
        self._waiting = deque(one for one in self._waiting if one.generation == frame.generation)
        self._waiting.append(frame)
        images = [place for place, one in enumerate(self._waiting) if one.image is not None]
        for place in images[:-_WAITING_IMAGES]:
            self._waiting[place] = replace(self._waiting[place], image=None)
        while len(self._waiting) * len(frame.audio) > _WAITING_S * frame.sample_rate:
            self._waiting.popleft()
        self._more.set()

    def __aiter__(self) -> "AsyncFrames":
        return self

    async def __anext__(self) -> LiveFrame:
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            self._more.clear()
            await self._more.wait()
        return self._waiting.popleft()
