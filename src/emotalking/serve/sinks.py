"""Where a session's frames go: a WebSocket, WebRTC, a stream or a virtual camera."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from emotalking.player.streaming import LiveFrame

Event = Mapping[str, object]
"""A message to the client: what is sent as JSON text on the WebSocket, with its ``type`` (docs/live.md)."""


@runtime_checkable
class Sink(Protocol):
    """Receiver of one session's frames and events, attached by `Session.attach`.

    The methods are called from the render thread and from workers, one at a time, and must return at once: a sink
    queues what takes time, and drops images rather than making the queue longer. An exception ends the session.
    """

    def frame(self, frame: LiveFrame) -> None:
        """Take the next frame; its ``image`` is None if it was dropped or not wanted."""
        ...

    def event(self, event: Event) -> None:
        """Take an event; ``bye`` is the last one: the session has ended, or the sink was replaced."""
        ...
