"""Texts that a session says: made by a speech synthesizer in a thread, sentence by sentence, with captions."""

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor
from typing import NamedTuple

from emotalking.emotion.tags import parse_tags, tag_times
from emotalking.errors import InputError
from emotalking.io.audio import SAMPLE_RATE
from emotalking.serve.said import Caption
from emotalking.serve.session import Session
from emotalking.tts.backends import open_synthesizer

LONGEST_TEXT = 5000
"""Characters of one text."""
_MOST_TEXTS = 16
_AHEAD_S = 20.0
"""Sound that is made ahead of the voice."""
_SENTENCE = re.compile(r"\S.*?(?:[.!?…]+[\"'”’)\]]*(?=\s)|[。！？]+|\n|$)", re.DOTALL)
_synthesizing = threading.Semaphore(2)
"""Synthesizers that run at a time, of all sessions."""
_logger = logging.getLogger(__name__)


class _Text(NamedTuple):
    text: str
    language: str
    voice: str | None
    speech: int


class Voice:
    """Says one session's texts one after the other.

    Args:
        session: that is to say them.
        pool: threads, as many as there are sessions.
    """

    def __init__(self, session: Session, pool: Executor) -> None:
        self._session, self._pool = session, pool
        self._lock = threading.Lock()
        self._texts: deque[_Text] = deque()
        self._running = False

    def say(self, text: str, language: str = "en", voice: str | None = None) -> None:
        """Say a text after those before it; what is wrong with it comes as the event ``error``.

        Raises:
            InputError: it is too long, or too many are waiting.
        """
        if len(text) > LONGEST_TEXT:
            raise InputError(f"the text has {len(text)} characters: send at most {LONGEST_TEXT} at once.")
        with self._lock:
            if len(self._texts) >= _MOST_TEXTS:
                raise InputError(f"{_MOST_TEXTS} texts are waiting to be said: send more later.")
            self._texts.append(_Text(text, language, voice, self._session.speech))
            if self._running:
                return
            self._running = True
        self._pool.submit(self._work)

    def _work(self) -> None:
        while True:
            with self._lock:
                self._running = bool(self._texts)
                if not self._running:
                    return
                text = self._texts.popleft()
            try:
                self._speak(text)
            except InputError as error:
                self._session.send({"type": "error", "message": str(error)})
            except Exception:
                _logger.exception("a text could not be said")
                self._session.send({"type": "error", "message": "the text could not be said: an internal error."})

    def _speak(self, wanted: _Text) -> None:
        session, at = self._session, 0.0
        synthesizer = open_synthesizer("auto")
        for sentence in sentences(wanted.text):
            while session.queued_s > _AHEAD_S and session.speech == wanted.speech:
                time.sleep(0.1)
            if session.speech != wanted.speech:
                return
            spoken, tags = parse_tags(sentence)
            if tags and not any(sign.isalnum() for sign in spoken):
                continue
            with _synthesizing:
                made = synthesizer.synthesize(spoken, language=wanted.language, voice=wanted.voice)
            words = tuple((word.label, at + word.start_s, at + word.end_s) for word in made.words or ())
            if at == 0.0:
                session.flush()  # sound that was pushed before is another utterance
            said = Caption(spoken, at, at + made.seconds, words)
            times = tag_times(tags, made)
            moods = [(at + begin, (tag.valence, tag.arousal)) for begin, tag in zip(times, tags, strict=True)]
            if session.push(made.samples, SAMPLE_RATE, caption=said, emotions=moods, speech=wanted.speech) is None:
                return
            at += made.seconds
        session.flush()


def sentences(text: str) -> Iterator[str]:
    """The sentences of a text, in order; one without letters and digits goes with the one before it."""
    last = ""
    for found in _SENTENCE.finditer(text):
        sentence = found[0].strip()
        if last and any(sign.isalnum() for sign in sentence):
            yield last
            last = sentence
        else:
            last = f"{last} {sentence}".strip()
    if last:
        yield last
