"""One client's head: the sound and the wishes that go in, the frames and events that come out."""

import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np
from jaxtyping import Float32, UInt8

from emotalking.errors import InputError
from emotalking.player.spoken import GateAt
from emotalking.player.streaming import FrameConditions, LiveFrame, PlaybackPosition, StreamingPlayer
from emotalking.serve.clients_first import ClientsFirst
from emotalking.serve.said import SILENCE, Caption, Cue, Piece, Place, Said, Shift, Unsaid
from emotalking.serve.sinks import Event, Sink

RATES_HZ = (8000, 96000)
"""Lowest and highest sample rate of pushed sound."""


class Session:
    """A head that is told what to say and how, and shows it on its sinks; every method may be called in any thread.

    Without a sink its clock stands: nothing is lost while a client is away.

    Args:
        avatar: name of the avatar.
        make: makes the player of an avatar's name.
        address: the client's, for limits.
        max_queued_s: sound that may wait to be said, in seconds.

    Raises:
        InputError: there is no such avatar.
    """

    def __init__(
        self,
        avatar: str,
        make: Callable[[str], StreamingPlayer],
        *,
        address: str = "",
        max_queued_s: float = 120.0,
    ) -> None:
        self.id, self.secret = secrets.token_urlsafe(12), secrets.token_urlsafe(24)
        self.avatar, self.address = avatar, address
        self.player = make(avatar)
        self.created = self.last_used = self.detached_at = time.monotonic()
        self.ended: str | None = None
        """Reason for which it ended."""
        self.every = 1
        """Of so many frames one has an image."""
        self.shown = self.dropped = 0
        """Frames with an image so far, and frames whose image was wanted and not rendered in time."""
        self.first_frame_s: float | None = None
        """Time from the first sample of the newest utterance that had not to wait until its first frame was sent."""
        self.speech = 0
        """Raised by `clear`: speech that is being made for an older number is not said any more."""
        self._make, self._max_queued_s = make, max_queued_s
        self._lock = ClientsFirst()
        self._sinks: list[Sink] = []
        self._outputs: list[Sink] = []
        """Those of the sinks that are no client's."""
        self.kept = False
        """True for a session that waits for clients without end."""
        self._unsaid = Unsaid()
        self._shift = Shift()
        self._wishes: dict[str, tuple[object, ...]] = {}
        self._cues: deque[Cue] = deque()
        self._said = Said(float(self.player.avatar.fps))
        self._index = self._counted = 0
        self._played: int | None = None
        self._newest = 0
        self._saying: int | None = None
        self._rendering = False
        self._next: tuple[str, StreamingPlayer] | None = None
        """The avatar to change to after the frame that is being rendered."""
        self._arrived: dict[int, float] = {}

    # What a client asks for ------------------------------------------------------------------------------------

    def push(
        self,
        samples: Float32[np.ndarray, " n"],
        sample_rate: int,
        *,
        caption: Caption | None = None,
        emotions: Sequence[tuple[float, tuple[float, float]]] = (),
        speech: int | None = None,
    ) -> int | None:
        """Say these samples, after all that was pushed before.

        Args:
            samples: mono in [-1, 1].
            sample_rate: 8000 to 96000 Hz, the same for all of an utterance.
            caption: text of the sound that begins here.
            emotions: valence and arousal from a time of the utterance on, seconds, in order.
            speech: value of :attr:`speech` when the sound was ordered: nothing is said if it is another now.

        Returns:
            Number of the utterance, from 1; None: nothing is said.

        Raises:
            InputError: another rate, samples that are no numbers, or too much sound that waits.
        """
        low, high = RATES_HZ
        if not low <= sample_rate <= high:
            raise InputError(f"the sample rate is {sample_rate} Hz: give {low} to {high}.")
        with self._lock.asked():
            if speech is not None and speech != self.speech:
                return None
            self.last_used = time.monotonic()
            if self.queued_s + len(samples) / sample_rate > self._max_queued_s:
                raise InputError(f"more than {self._max_queued_s:g} s of sound would be waiting: send it more slowly.")
            waited = self.busy
            utterance = self._newest = self.player.push(samples, sample_rate) + self._shift.utterance
            if not waited and utterance not in self._arrived:
                self._arrived[utterance] = self.last_used
            self._unsaid.add(Piece(utterance, samples, sample_rate), self.queued_s)
            self._cues.extend(Cue(utterance, at_s, va) for at_s, va in emotions)
            if caption is not None:
                self.send(caption.event(utterance))
        return utterance

    def flush(self) -> None:
        """End the utterance: the rest of it is said, and silence after it."""
        with self._lock.asked():
            self.last_used = time.monotonic()
            self.player.flush()
            self._unsaid.add(Piece(self._newest, np.zeros(0, np.float32), 1), self.queued_s)

    def clear(self, heard_frame: int | None = None) -> PlaybackPosition | None:
        """Interrupt: forget what has not been said, and tell what had been heard in the event ``cleared``.

        Args:
            heard_frame: newest frame that was heard; None: the one that the client told last, else all that was sent.

        Returns:
            What had been heard; None: nothing was being said.
        """
        with self._lock.asked():
            self.last_used = time.monotonic()
            self.speech += 1
            self._unsaid.forget()
            self._cues.clear()
            self._arrived.clear()
            frame = self._played if heard_frame is None else heard_frame
            place = None if frame is None else self._said.at(frame - self._index)
            heard = self.player.clear()
            if heard is not None and (place is None or place.utterance is None):
                utterance = heard.utterance + self._shift.utterance
                before = self._shift.position_s if heard.utterance == 1 else 0.0
                place = Place(utterance, before + heard.seconds if place is None else 0.0)
            self._saying = None
            self._said.forget()
            self.send(
                {
                    "type": "cleared",
                    "utterance": 0 if place is None else place.utterance or 0,
                    "position_s": 0.0 if place is None else round(place.position_s, 4),
                    "generation": self.player.generation + self._shift.generation,
                }
            )
        return None if place is None or place.utterance is None else PlaybackPosition(place.utterance, place.position_s)

    def wish(self, name: str, *values: object) -> None:
        """Call the player's method ``set_NAME``; a later avatar of this session is told the same.

        Raises:
            InputError: the avatar cannot do it.
        """
        with self._lock.asked():
            self.last_used = time.monotonic()
            _setter(self.player, name)(*values)
            self._wishes[name] = values

    def played(self, frame: int) -> None:
        """Note the newest frame that the client has shown and let be heard."""
        with self._lock.asked():
            if 0 <= frame < self._index:
                self._played = max(frame, self._played or 0)

    def switch(self, avatar: str) -> None:
        """Show another avatar, which goes on with the sentence.

        Raises:
            InputError: there is no such avatar.
        """
        player = self._make(avatar)
        with self._lock.asked():
            self.last_used = time.monotonic()
            self._next = avatar, player
            if not self._rendering:
                self._change_avatar()

    # Sinks -----------------------------------------------------------------------------------------------------

    def attach(self, sink: Sink, *, alone: bool = False) -> None:
        """Send frames and events here as well, from the next frame on.

        Args:
            alone: in place of all others, which get ``bye``.
        """
        with self._lock.asked():
            if self.ended is not None:
                sink.event({"type": "bye", "reason": self.ended})
                return
            if alone:
                for other in [one for one in self._sinks if one not in self._outputs]:
                    other.event({"type": "bye", "reason": "the session goes on in another connection"})
                self._sinks = list(self._outputs)
            self._sinks.append(sink)
            self.last_used = time.monotonic()

    def keep(self, output: Sink) -> None:
        """Attach an output that stays with the session, which is then kept."""
        with self._lock.asked():
            self.kept = True
            self._outputs.append(output)
            self.attach(output)

    def detach(self, sink: Sink) -> bool:
        """Send nothing to this sink any more; False: nothing was."""
        with self._lock.asked():
            if sink not in self._sinks:
                return False
            self._sinks.remove(sink)
            self.detached_at = time.monotonic()
            return True

    @property
    def attached(self) -> bool:
        """True if somebody watches."""
        return bool(self._sinks)

    def send(self, event: Event) -> None:
        """Send an event to all sinks."""
        with self._lock.asked():
            for sink in list(self._sinks):
                sink.event(event)

    def end(self, reason: str) -> None:
        """End the session; its sinks get ``bye``."""
        with self._lock.asked():
            if self.ended is None:
                self.ended = reason
                self.speech += 1
                self.send({"type": "bye", "reason": reason})
                self._sinks.clear()

    # The render thread's side ----------------------------------------------------------------------------------

    def hear(self) -> GateAt | None:
        """Listen to the sound of the next frame (:meth:`StreamingPlayer.hear`)."""
        with self._lock:
            return self.player.hear() if self._sinks else None

    def skip(self) -> None:
        """Move the clock by one frame, which is sent without an image."""
        self._lock.give_way()
        with self._lock:
            self.dropped += self._wanted
            self._deliver(self.player.finish(self.player.conditions(), None))

    def advance(self) -> tuple[FrameConditions, bool] | None:
        """Move the clock by one frame.

        Returns:
            Its conditions, and whether its image is wanted; None: nobody watches.
        """
        self._lock.give_way()
        with self._lock:
            if not self._sinks:
                return None
            self._rendering = True
            return self.player.conditions(), self._wanted

    def show(self, conditions: FrameConditions, image: UInt8[np.ndarray, "H W channels"] | None) -> None:
        """Send the frame of `advance`, with its image."""
        with self._lock:
            self._rendering = False
            self.shown += image is not None
            self._deliver(self.player.finish(conditions, image))
            if self._next is not None:
                self._change_avatar()

    def sent(self, frame: LiveFrame) -> float | None:
        """Note that a sink has handed a frame to the network.

        Returns:
            Seconds since the first sample of its utterance came, if this is the first frame of one that had not to
            wait for another.
        """
        began = None if frame.utterance is None else self._arrived.pop(frame.utterance, None)
        if began is None:
            return None
        self.first_frame_s = time.monotonic() - began
        return self.first_frame_s

    def facts(self) -> dict[str, object]:
        """The avatar, the next frame, and what can be wished, for the client."""
        avatar = self.player.avatar
        able = [name for name in ("pose", "gaze", "idle", "background") if hasattr(self.player, f"set_{name}")]
        if getattr(avatar, "gaze", None) is None and "gaze" in able:
            able.remove("gaze")
        return {
            "avatar": self.avatar,
            "width": avatar.width,
            "height": avatar.height,
            "fps": float(avatar.fps),
            "sample_rate": self.player.sample_rate,
            "frame": self._index,
            "can": ["emotion"] * avatar.emotional + able + ["say"],
        }

    def stats(self, seconds: float) -> Event:
        """Event with the figures since the last call.

        Args:
            seconds: since then.
        """
        shown, self._counted = self.shown - self._counted, self.shown
        latency = None if self.first_frame_s is None else round(1e3 * self.first_frame_s, 1)
        return {"type": "stats", "fps": round(shown / seconds, 1), "dropped": self.dropped, "latency_ms": latency}

    @property
    def queued_s(self) -> float:
        """Seconds of sound that have not been said."""
        with self._lock:
            return self.player.queued_s

    @property
    def busy(self) -> bool:
        """True while there is something to say."""
        return self._saying is not None or self.queued_s > 0

    # Within ----------------------------------------------------------------------------------------------------

    @property
    def _wanted(self) -> bool:
        return self._index % self.every == 0

    def _deliver(self, made: LiveFrame) -> None:
        """Send a frame, and what it begins or ends."""
        now = self.player.generation
        frame = self._shift.applied(made) if made.generation == now else self._shift.silenced(made, now)
        self._index = frame.index + 1
        if frame.utterance is not None:
            while self._cues and self._cues[0][:2] <= (frame.utterance, frame.position_s):
                with suppress(InputError):  # an avatar without emotions speaks all the same
                    self.wish("emotion", va := self._cues.popleft().va)
                    self.send({"type": "emotion", "valence": va[0], "arousal": va[1]})
            self._said.add(Place(frame.utterance, frame.position_s))
            if frame.utterance != self._saying:
                self._saying = frame.utterance
                self.send({"type": "started", "utterance": frame.utterance, "frame": frame.index})
        else:  # within an utterance: its next sound has not come yet
            self._said.add(self._said.newest if self._saying is not None else SILENCE)
        for sink in list(self._sinks):
            sink.frame(frame)
        if frame.ended:
            self._saying = None
            self._unsaid.forget(frame.utterance)
            self.send({"type": "ended", "utterance": frame.utterance, "frame": frame.index})

    def _change_avatar(self) -> None:
        """Go on with `_next`: the clock, the numbers, the wishes and all that has not been said."""
        assert self._next is not None
        (self.avatar, player), self._next = self._next, None
        unsaid = self._unsaid.pieces(self.queued_s)
        position = self._said.newest.position_s if self._saying is not None else 0.0
        if self._saying is not None and unsaid and not any(len(piece.samples) for piece in unsaid):
            # Only its end was to come.
            self.send({"type": "ended", "utterance": self._saying, "frame": self._index - 1})
            self._saying, unsaid, position = None, [], 0.0
        first = self._saying or (unsaid[0].utterance if unsaid else self._newest + 1)
        self._shift = Shift(self._index, first - 1, self.player.generation + self._shift.generation, position)
        self.player = player
        self._unsaid.forget()
        for name, values in self._wishes.items():
            try:
                _setter(player, name)(*values)
            except InputError as error:
                self.send({"type": "error", "message": str(error)})
        for piece in unsaid:
            if len(piece.samples):
                player.push(piece.samples, piece.rate)
            else:
                player.flush()
            self._unsaid.add(piece, self.queued_s)
        self.send({"type": "avatar", **self.facts()})


def _setter(player: StreamingPlayer, name: str) -> Callable[..., None]:
    """The player's method ``set_NAME``; an InputError where it has none."""
    method = getattr(player, f"set_{name}", None)
    if method is None:
        raise InputError(f"this avatar has no {name} that can be changed.")
    return method
