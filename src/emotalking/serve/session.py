"""One client's head: the sound and the wishes that go in, the frames and events that come out."""

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from emotalking.errors import InputError
from emotalking.player.backgrounds import Background
from emotalking.serve.sinks import Event, Sink

if TYPE_CHECKING:
    from emotalking.player.streaming import FrameConditions, LiveFrame, StreamingPlayer

RATES_HZ = (8000, 96000)
"""Lowest and highest sample rate of pushed sound."""
_PIECE_S = 0.04
"""Sound that is given to the player at a time: the render thread waits for no more than its features."""
_AHEAD_S = 0.4
"""Sound that the player holds beyond its look-ahead; the rest waits here, where it costs nothing to forget."""
_REMEMBERED_S = 60
"""Time for which a frame's place in the speech is known after it was sent."""


@dataclass(frozen=True)
class Caption:
    """A sentence that is being said, with the times of its words from the beginning of the utterance."""

    text: str
    start_s: float
    end_s: float
    words: tuple[tuple[str, float, float], ...] = ()


class _Piece(NamedTuple):
    """Sound on its way to the player, or the end of an utterance (no samples)."""

    samples: np.ndarray
    rate: int
    arrived: float
    caption: Caption | None = None

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate


class _Place(NamedTuple):
    """What had been said at the end of a frame."""

    utterance: int | None
    position_s: float


@dataclass
class _Shift:
    """What is added to a player's own numbers: a session goes on counting when its avatar is changed."""

    index: int = 0
    utterance: int = 0
    generation: int = 0
    position_s: float = 0.0
    """Of the utterance with number ``utterance + 1``, which the avatar before had begun."""

    def applied(self, frame: "LiveFrame") -> "LiveFrame":
        began = self.position_s if frame.utterance == 1 else 0.0
        return replace(
            frame,
            index=frame.index + self.index,
            utterance=None if frame.utterance is None else frame.utterance + self.utterance,
            position_s=frame.position_s + began,
            generation=frame.generation + self.generation,
        )


class Session:
    """A head that is told what to say and how, and shows it on its sinks; every method may be called in any thread.

    Without a sink its clock stands: nothing is lost while a client is away.

    Args:
        avatar: name of the avatar.
        make: makes the player of an avatar's name.
        workers: threads for features and speech.
        address: the client's, for limits.
        max_queued_s: sound that may wait to be said, in seconds.

    Raises:
        InputError: there is no such avatar.
    """

    def __init__(
        self,
        avatar: str,
        make: "Callable[[str], StreamingPlayer]",
        workers: Executor,
        *,
        address: str = "",
        max_queued_s: float = 300.0,
    ) -> None:
        self.id, self.secret = secrets.token_urlsafe(12), secrets.token_urlsafe(24)
        self.avatar, self.address = avatar, address
        self.player = make(avatar)
        self.workers = workers
        self.created = self.last_used = self.detached_at = time.monotonic()
        self.ended: str | None = None
        """Reason for which it ended."""
        self.every = 1
        """Of so many frames one has an image."""
        self.shown = self.dropped = 0
        """Frames with an image so far, and frames whose image was wanted and not rendered."""
        self.first_frame_s: float | None = None
        """Time from the first sample of the newest utterance to its first frame, in seconds."""
        self.speech = 0
        """Raised by `clear`: speech that is being made for an older number is not said any more."""
        self._make, self._max_queued_s = make, max_queued_s
        self._lock = threading.RLock()
        self._sinks: list[Sink] = []
        self._pending: deque[_Piece] = deque()
        self._fed: deque[_Piece] = deque()
        self._feeding = False
        self._shift = _Shift()
        self._wishes: dict[str, tuple[object, ...]] = {}
        self._places: deque[_Place] = deque(maxlen=round(_REMEMBERED_S * float(self.player.avatar.fps)))
        self._index = 0
        self._played: int | None = None
        self._utterance: int | None = None
        self._began: dict[int, float] = {}

    # What a client asks for ------------------------------------------------------------------------------------

    def push(self, samples: Float32[np.ndarray, " n"], sample_rate: int, caption: Caption | None = None) -> None:
        """Say these samples, after all that was pushed before.

        Args:
            samples: mono in [-1, 1].
            sample_rate: 8000 to 96000 Hz.
            caption: text of the sound that begins here.

        Raises:
            InputError: another rate, samples that are no numbers, or too much sound that waits.
        """
        low, high = RATES_HZ
        if not low <= sample_rate <= high:
            raise InputError(f"the sample rate is {sample_rate} Hz: give {low} to {high}.")
        if not np.isfinite(samples).all():
            raise InputError("the sound holds samples that are no numbers.")
        with self._lock:
            self.last_used = time.monotonic()
            if self.queued_s + len(samples) / sample_rate > self._max_queued_s:
                raise InputError(f"more than {self._max_queued_s:g} s of sound are waiting: send it more slowly.")
            self._pending.append(_Piece(np.clip(samples, -1.0, 1.0), sample_rate, self.last_used, caption))
        self._feed_soon()

    def flush(self) -> None:
        """End the utterance after all that was pushed."""
        with self._lock:
            self.last_used = time.monotonic()
            self._pending.append(_Piece(np.zeros(0, np.float32), 1, self.last_used))
        self._feed_soon()

    def clear(self, heard_frame: int | None = None) -> None:
        """Interrupt: forget what has not been said, and tell what had been heard as the event ``cleared``.

        Args:
            heard_frame: newest frame that the client has shown; None: as it told last, or else all that was sent.
        """
        with self._lock:
            self.last_used = time.monotonic()
            self.speech += 1
            self._pending.clear()
            self._fed.clear()
            place = self._place(self._played if heard_frame is None else heard_frame)
            heard = self.player.clear()
            if place is None or place.utterance is None:
                seconds = 0.0 if place is not None or heard is None else heard.seconds
                place = _Place(None if heard is None else heard.utterance + self._shift.utterance, seconds)
            self._utterance = None
            generation = self.player.generation + self._shift.generation
            self.send(
                {
                    "type": "cleared",
                    "utterance": place.utterance or 0,
                    "position_s": round(place.position_s, 4),
                    "generation": generation,
                }
            )

    def wish(self, name: str, *values: object) -> None:
        """Call the player's ``set_...`` method of this name; a later avatar of this session is told the same.

        Raises:
            InputError: the avatar cannot do it.
        """
        with self._lock:
            self.last_used = time.monotonic()
            getattr(self.player, name)(*values)
            self._wishes[name] = values

    def set_background(self, background: Background) -> None:
        """Change what is behind the head.

        Raises:
            InputError: it is no background.
        """
        self.wish("set_background", background)

    def played(self, frame: int) -> None:
        """Note the newest frame that the client has shown and let be heard."""
        with self._lock:
            if 0 <= frame < self._index:
                self._played = max(frame, self._played or 0)

    def switch(self, avatar: str) -> None:
        """Show another avatar, which goes on with the sentence.

        Raises:
            InputError: there is no such avatar.
        """
        player = self._make(avatar)
        with self._lock:
            self.last_used = time.monotonic()
            talking = self._utterance is not None
            last = self._places[-1] if self._places else _Place(None, 0.0)
            unplayed = self._unplayed()
            newest = self.player.utterance + self._shift.utterance
            self._shift = _Shift(
                index=self._index,
                utterance=newest - 1 if talking else newest,
                generation=self.player.generation + self._shift.generation,
                position_s=last.position_s if talking else 0.0,
            )
            self._pending.extendleft(reversed(unplayed))
            self._fed.clear()
            self.player, self.avatar = player, avatar
            for name, values in self._wishes.items():
                try:
                    getattr(player, name)(*values)
                except InputError as error:
                    self.send({"type": "error", "message": str(error)})
            self.send({"type": "avatar", "frame": self._index, **self.picture()})
        self._feed_soon()

    # Sinks -----------------------------------------------------------------------------------------------------

    def attach(self, sink: Sink) -> None:
        """Send frames and events here as well, from the next frame on."""
        with self._lock:
            if self.ended is None:
                self._sinks.append(sink)
                self.last_used = time.monotonic()
                return
        sink.event({"type": "bye", "reason": self.ended})

    def detach(self, sink: Sink) -> None:
        """Send nothing to this sink any more."""
        with self._lock:
            if sink in self._sinks:
                self._sinks.remove(sink)
                self.detached_at = time.monotonic()

    def replace_sinks(self, sink: Sink) -> None:
        """Attach a sink in place of those of a connection that was lost."""
        with self._lock:
            for old in self._sinks:
                old.event({"type": "bye", "reason": "the session goes on in another connection"})
            self._sinks.clear()
        self.attach(sink)

    @property
    def attached(self) -> bool:
        """True if somebody watches."""
        return bool(self._sinks)

    def send(self, event: Event) -> None:
        """Send an event to all sinks."""
        with self._lock:
            for sink in list(self._sinks):
                sink.event(event)

    def end(self, reason: str) -> None:
        """End the session; its sinks get ``bye``."""
        with self._lock:
            if self.ended is None:
                self.ended = reason
                self._pending.clear()
                self.send({"type": "bye", "reason": reason})
                self._sinks.clear()

    # The render thread's side ----------------------------------------------------------------------------------

    def advance(self, frames: int) -> "tuple[FrameConditions, bool] | None":
        """Move the clock by so many frames; all but the last are sent without an image.

        Returns:
            Conditions of the last frame, and whether its image is wanted; None: nobody watches.
        """
        with self._lock:
            if not self._sinks:
                return None
            for _ in range(frames - 1):
                self.dropped += self.wanted
                self._deliver(self.player.finish(self.player.conditions(), None))
            return self.player.conditions(), self.wanted

    @property
    def wanted(self) -> bool:
        """True if the next frame is to have an image."""
        return self._index % self.every == 0

    def show(self, conditions: "FrameConditions", image: UInt8[np.ndarray, "H W channels"] | None) -> None:
        """Send the frame of `advance`, with its image."""
        with self._lock:
            self.shown += image is not None
            self._deliver(self.player.finish(conditions, image))
            more = bool(self._pending)
        if more:
            self._feed_soon()

    def picture(self) -> dict[str, object]:
        """Facts about the avatar for the client."""
        avatar = self.player.avatar
        return {"name": self.avatar, "width": avatar.width, "height": avatar.height, "fps": float(avatar.fps)}

    @property
    def queued_s(self) -> float:
        """Seconds of sound that have not been said."""
        with self._lock:
            return sum(piece.seconds for piece in self._pending) + self.player.queued_s

    @property
    def busy(self) -> bool:
        """True while there is something to say."""
        return self._utterance is not None or self.queued_s > 0

    # Within ----------------------------------------------------------------------------------------------------

    def _deliver(self, made: "LiveFrame") -> None:
        frame = self._shift.applied(made)
        self._index = frame.index + 1
        self._places.append(_Place(frame.utterance, frame.position_s))
        if frame.utterance is not None and frame.utterance != self._utterance:
            self._utterance = frame.utterance
            self.send({"type": "started", "utterance": frame.utterance, "frame": frame.index})
            if (began := self._began.pop(frame.utterance, None)) is not None:
                self.first_frame_s = time.monotonic() - began
        for sink in list(self._sinks):
            sink.frame(frame)
        if frame.ended:
            self.send({"type": "ended", "utterance": self._utterance or 0, "frame": frame.index})
            self._utterance = None

    def _place(self, frame: int | None) -> _Place | None:
        """What had been said at the end of a frame; None: not known any more, or no frame."""
        if frame is None:
            return None
        number = frame - (self._index - len(self._places))
        return self._places[number] if 0 <= number < len(self._places) else None

    def _feed_soon(self) -> None:
        with self._lock:
            if self._feeding or self.ended is not None:
                return
            self._feeding = True
        self.workers.submit(self._feed)

    def _feed(self) -> None:
        """Give the player its sound, piece by piece: the render thread gets its turn between two of them."""
        try:
            while self._feed_piece():
                time.sleep(0.0005)
        except Exception as error:  # of the features: this session alone is affected
            self.end(f"the sound could not be used: {error}")

    def _feed_piece(self) -> bool:
        with self._lock:
            most = self.player.look_ahead_s + _AHEAD_S
            if not self._pending or self.ended is not None or self.player.queued_s >= most:
                self._feeding = False
                return False
            piece = self._pending.popleft()
            count = round(_PIECE_S * piece.rate)
            if len(piece.samples) > count:
                rest = piece._replace(samples=piece.samples[count:], caption=None)
                self._pending.appendleft(rest)
                piece = piece._replace(samples=piece.samples[:count])
            self._give(piece)
            return True

    def _give(self, piece: _Piece) -> None:
        self._fed.append(piece)
        while self._fed and sum(one.seconds for one in self._fed) - self._fed[0].seconds > self.player.queued_s + 1.0:
            self._fed.popleft()
        if not len(piece.samples):
            self.player.flush()
            return
        utterance = self.player.push(piece.samples, piece.rate) + self._shift.utterance
        self._began.setdefault(utterance, piece.arrived)
        if (said := piece.caption) is not None:
            self.send(
                {
                    "type": "caption",
                    "utterance": utterance,
                    "text": said.text,
                    "start_s": said.start_s,
                    "end_s": said.end_s,
                    "words": said.words,
                }
            )

    def _unplayed(self) -> list[_Piece]:
        """Sound that the player has and has not played, from its next sample on."""
        left = self.player.queued_s
        found: list[_Piece] = []
        for piece in reversed(self._fed):
            if left <= 1e-6 and len(piece.samples):
                break
            take = min(len(piece.samples), round(left * piece.rate))
            left -= take / piece.rate
            found.append(piece._replace(samples=piece.samples[len(piece.samples) - take :], caption=None))
        return found[::-1]
