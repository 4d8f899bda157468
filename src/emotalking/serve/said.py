"""What a session has been given to say, and what of it was said when."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from emotalking.player.streaming import LiveFrame

_REMEMBERED_S = 60
"""Time for which it is known what was said at the end of a frame, after it was sent."""
_SLACK_S = 0.1
"""What is kept beyond the sound that has not been said."""


@dataclass(frozen=True)
class Caption:
    """A sentence that is said, with the times of its words; seconds from the beginning of the utterance."""

    text: str
    start_s: float
    end_s: float
    words: tuple[tuple[str, float, float], ...] = ()

    def event(self, utterance: int) -> Mapping[str, object]:
        """As an event of the session."""
        times = {"start_s": round(self.start_s, 3), "end_s": round(self.end_s, 3)}
        return {"type": "caption", "utterance": utterance, "text": self.text, **times, "words": self.words}


class Cue(NamedTuple):
    """An emotion from a position of an utterance on."""

    utterance: int
    at_s: float
    va: tuple[float, float]


class Piece(NamedTuple):
    """Sound that was pushed, or the end of an utterance (no samples)."""

    utterance: int
    samples: np.ndarray
    rate: int

    @property
    def seconds(self) -> float:
        """Duration."""
        return len(self.samples) / self.rate


class Place(NamedTuple):
    """What had been said at the end of a frame."""

    utterance: int | None
    position_s: float


SILENCE = Place(None, 0.0)


class Said:
    """What had been said at the end of each of the last frames."""

    def __init__(self, fps: float) -> None:
        self._places: deque[Place] = deque(maxlen=round(_REMEMBERED_S * fps))

    def add(self, place: Place) -> None:
        """Note the place of the next frame."""
        self._places.append(place)

    @property
    def newest(self) -> Place:
        """That of the newest frame."""
        return self._places[-1]

    def at(self, frame: int) -> Place | None:
        """That of a frame, -1 for the newest; None: not known any more, or still to come."""
        return self._places[frame] if -len(self._places) <= frame < 0 else None

    def forget(self) -> None:
        """Tell nothing of these frames again."""
        self._places.extend([SILENCE] * len(self._places))


@dataclass(frozen=True)
class Shift:
    """What is added to a player's own numbers: a session goes on counting when its avatar is changed."""

    index: int = 0
    utterance: int = 0
    generation: int = 0
    position_s: float = 0.0
    """Of the player's first utterance, which the avatar before had begun."""

    def applied(self, frame: LiveFrame) -> LiveFrame:
        """A player's frame as the session's."""
        return replace(
            frame,
            index=frame.index + self.index,
            utterance=None if frame.utterance is None else frame.utterance + self.utterance,
            position_s=frame.position_s + (self.position_s if frame.utterance == 1 else 0.0),
            generation=frame.generation + self.generation,
        )

    def silenced(self, frame: LiveFrame, generation: int) -> LiveFrame:
        """A frame that was interrupted while it was rendered, without its sound.

        Args:
            frame: the player's.
            generation: the player's now.
        """
        silent = np.zeros_like(frame.audio)
        later = replace(frame, audio=silent, utterance=None, position_s=0.0, ended=False, generation=generation)
        return self.applied(later)


class Unsaid:
    """The sound that was pushed and has not been said, so that another avatar can say it."""

    def __init__(self) -> None:
        self._pieces: deque[Piece] = deque()
        self._seconds = 0.0

    def add(self, piece: Piece, queued_s: float) -> None:
        """Append a piece; what was said is forgotten.

        Args:
            queued_s: sound that has not been said, with this piece.
        """
        self._pieces.append(piece)
        self._seconds += piece.seconds
        while self._seconds - self._pieces[0].seconds > queued_s + _SLACK_S:
            self._seconds -= self._pieces.popleft().seconds

    def forget(self, utterance: int | None = None) -> None:
        """Forget all, or what was pushed until the end of an utterance."""
        while self._pieces and (utterance is None or self._pieces[0].utterance <= utterance):
            self._seconds -= self._pieces.popleft().seconds
        if not self._pieces:
            self._seconds = 0.0  # without what rounding has left

    def pieces(self, queued_s: float) -> list[Piece]:
        """The last ``queued_s`` seconds and the ends of utterances in them and after them."""
        found: list[Piece] = []
        for piece in reversed(self._pieces):
            if queued_s < 1e-6 and len(piece.samples):
                break
            take = min(len(piece.samples), round(queued_s * piece.rate))
            queued_s -= take / piece.rate
            found.append(piece._replace(samples=piece.samples[len(piece.samples) - take :]))
        return found[::-1]
