"""A dialogue with a head: turns of the user go in, a source of answers speaks through the head, and the user may
interrupt it. Of an answer that was interrupted the history keeps what was heard.
"""

import logging
import re
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from emotalking.errors import InputError
from emotalking.io.audio import SAMPLE_RATE
from emotalking.serve.microphone import SpeechEnded, SpeechStarted
from emotalking.tts.base import Synthesizer, Utterance

_logger = logging.getLogger(__name__)
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'»”)\]]*\s+|(?<=[。！？])|\n+")
_SHORTEST = 12
"""Characters of a sentence that is synthesised alone; shorter ones ("Dr.", "No.") wait for the next."""


@runtime_checkable
class Position(Protocol):
    """What ``clear`` gives: how far the interrupted speech was heard."""

    @property
    def seconds(self) -> float: ...


@runtime_checkable
class Head(Protocol):
    """The part of a streaming player or a session that a dialogue uses."""

    @property
    def queued_s(self) -> float:
        """Sound that has not been played, in seconds."""
        ...

    def push(self, samples: Float[np.ndarray, " n"], sample_rate: int) -> object:
        """Append sound to the open utterance, or begin one."""
        ...

    def flush(self) -> None:
        """End the utterance: what was pushed is still played."""
        ...

    def clear(self) -> Position | None:
        """Forget what has not been played; gives what was heard, or None if nothing was being said."""
        ...


@dataclass(frozen=True)
class Message:
    """One turn of the dialogue."""

    role: Literal["user", "assistant"]
    text: str
    """Words; empty if they are not known."""
    sound: Float[np.ndarray, " n"] | None = None
    """What the user said, float32 mono at 16 kHz."""


@runtime_checkable
class AnswerSource(Protocol):
    """Something that answers."""

    def understand(self, speech: Float[np.ndarray, " n"]) -> Message:
        """The message of a turn of the user, float32 mono at 16 kHz."""
        ...

    def answer(self, history: Sequence[Message]) -> Iterator[str | Float[np.ndarray, " _"]]:
        """Pieces of text in any cut, or sound at 16 kHz, that answer the last message."""
        ...


class Echo:
    """Speak back the sound of the user."""

    def understand(self, speech: Float[np.ndarray, " n"]) -> Message:
        """See :class:`AnswerSource`; no words are known."""
        return Message("user", "", speech)

    def answer(self, history: Sequence[Message]) -> Iterator[str | Float[np.ndarray, " _"]]:
        """See :class:`AnswerSource`."""
        sound = history[-1].sound
        if sound is not None:
            yield sound


class Script:
    """Say one line after another, one each turn, and begin again after the last.

    Args:
        lines: what to say; empty lines are skipped.

    Raises:
        InputError: no line has words.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = [line.strip() for line in lines if line.strip()]
        if not self._lines:
            raise InputError("the script has no lines: give a text file with a line for each answer.")

    def understand(self, speech: Float[np.ndarray, " n"]) -> Message:
        """See :class:`AnswerSource`."""
        return Message("user", "")

    def answer(self, history: Sequence[Message]) -> Iterator[str | Float[np.ndarray, " _"]]:
        """See :class:`AnswerSource`."""
        turn = sum(message.role == "user" for message in history) - 1
        yield self._lines[turn % len(self._lines)]


def sentences(pieces: Iterable[str]) -> Iterator[str]:
    """Whole sentences from pieces of text, each as soon as the next one has begun; the rest at the end."""
    waiting = ""
    for piece in pieces:
        waiting += piece
        start = 0
        for end in _SENTENCE_END.finditer(waiting):
            if len(waiting[start : end.end()].strip()) >= _SHORTEST:
                yield waiting[start : end.end()].strip()
                start = end.end()
        waiting = waiting[start:]
    if waiting.strip():
        yield waiting.strip()


@dataclass
class _Answer:
    """An answer that is being given."""

    place: int
    """Index of its message in the history; valid while no other message follows."""
    spoken: list[tuple[float, Utterance]] = field(default_factory=list)
    """Sentences with the second of the utterance at which each begins."""
    seconds: float = 0.0
    stopped: bool = False

    def heard(self, seconds: float) -> str:
        """Words that had been said after so many seconds."""
        return " ".join(filter(None, (_words_until(one, seconds - start) for start, one in self.spoken)))


def _words_until(utterance: Utterance, seconds: float) -> str:
    """Words that were said in the first ``seconds``; without their times, as large a share of the words."""
    if seconds >= utterance.seconds:
        return utterance.text
    words = utterance.text.split()
    if utterance.words is not None and len(utterance.words) == len(words):
        return " ".join(word for word, timed in zip(words, utterance.words, strict=True) if timed.end_s <= seconds)
    return " ".join(words[: int(max(0.0, seconds) / max(utterance.seconds, 1e-6) * len(words))])


class Dialogue:
    """Answer turns of speech through a head; methods may be called from any thread.

    Args:
        head: a streaming player or a session.
        source: what answers.
        synthesizer: reads the answers.
        language: of the answers.
        voice: of the synthesizer; None: its first.
        longest: messages that are remembered.
    """

    def __init__(
        self,
        head: Head,
        source: AnswerSource,
        synthesizer: Synthesizer,
        *,
        language: str = "en",
        voice: str | None = None,
        longest: int = 40,
    ) -> None:
        self._head, self._source, self._synthesizer = head, source, synthesizer
        self._language, self._voice, self._longest = language, voice, longest
        self._history: list[Message] = []
        self._lock, self._understanding = threading.RLock(), threading.Lock()
        self._answer: _Answer | None = None
        self._thread: threading.Thread | None = None

    @property
    def history(self) -> tuple[Message, ...]:
        """What was said so far; of an interrupted answer the words that were heard."""
        with self._lock:
            return tuple(self._history)

    def hear(self, speech: Float[np.ndarray, " n"]) -> None:
        """Answer a turn of the user; returns at once. What is still being said is interrupted.

        Args:
            speech: float32 mono at 16 kHz.
        """
        self.interrupt()
        answer = _Answer(-1)
        with self._lock:
            self._answer = answer
            self._thread = threading.Thread(target=self._reply, args=(answer, speech), daemon=True)
            self._thread.start()

    def interrupt(self) -> None:
        """Be silent at once: the rest of the answer is neither said nor remembered."""
        with self._lock:
            answer, self._answer = self._answer, None
            if answer is None:
                return
            answer.stopped = True
            position = self._head.clear()
            if position is not None and answer.place >= 0:  # else all of it was heard, or there was none
                heard = answer.heard(position.seconds)
                replaced = [Message("assistant", heard)] if heard else []
                self._history[answer.place : answer.place + 1] = replaced

    @property
    def speaking(self) -> bool:
        """True while an answer is awaited or said."""
        with self._lock:
            return not self.wait(0) or self._head.queued_s > 0

    def finish(self) -> None:
        """Wait until the answer has been said."""
        while self.speaking:
            time.sleep(0.05)

    def wait(self, timeout: float | int | None = None) -> bool:
        """Wait until the answer is pushed as a whole; False if it is not after ``timeout`` seconds."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout)
        return thread is None or not thread.is_alive()

    def _reply(self, answer: _Answer, speech: np.ndarray) -> None:
        try:
            # One after another: what was said first comes first, even if its answer is no longer wanted.
            with self._understanding:
                message = self._source.understand(speech)
                with self._lock:
                    self._history = [*self._history, message][-self._longest :]
                    asked = tuple(self._history)
            if not answer.stopped:
                self._say(answer, self._source.answer(asked))
        except InputError as error:
            _logger.error("no answer: %s", error)
        finally:
            with self._lock:
                if not answer.stopped and answer.spoken:
                    self._head.flush()

    def _say(self, answer: _Answer, pieces: Iterator[str | np.ndarray]) -> None:
        def texts() -> Iterator[str]:
            for piece in pieces:
                if answer.stopped:
                    return
                if isinstance(piece, str):
                    yield piece
                else:
                    self._push(answer, Utterance("", self._language, "", piece, None, None))

        for sentence in sentences(texts()):
            if answer.stopped:
                return
            self._push(answer, self._synthesizer.synthesize(sentence, language=self._language, voice=self._voice))

    def _push(self, answer: _Answer, utterance: Utterance) -> None:
        """Say a sentence and remember it, unless the answer was interrupted."""
        with self._lock:
            if answer.stopped:
                return
            self._head.push(utterance.samples, SAMPLE_RATE)
            answer.spoken.append((answer.seconds, utterance))
            answer.seconds += utterance.seconds
            message = Message("assistant", answer.heard(answer.seconds))
            if answer.place < 0:
                self._history.append(message)
                answer.place = len(self._history) - 1
            else:
                self._history[answer.place] = message


def converse(events: Iterable[SpeechStarted | SpeechEnded], dialogue: Dialogue, *, barge_in: bool = True) -> None:
    """Answer every turn of a microphone, until its sound ends.

    Args:
        events: of :func:`emotalking.serve.microphone.listen`.
        dialogue: answers them.
        barge_in: interrupt the answer when the user speaks; False: ignore what is said during an answer, for a
            microphone that hears the loudspeakers.
    """
    ignored = False
    for event in events:
        if isinstance(event, SpeechStarted):
            ignored = not barge_in and dialogue.speaking
            if not ignored:
                dialogue.interrupt()
        elif not ignored:
            dialogue.hear(event.samples)
