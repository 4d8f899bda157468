"""The server as a whole: failures of one session, an end in order, the command."""

import json
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra emotalking[serve]")

import emotalking
from emotalking.errors import InputError
from emotalking.player.streaming import LiveFrame
from emotalking.serve.scheduler import Scheduler
from emotalking.serve.server import LiveServer
from emotalking.serve.settings import ServeSettings
from emotalking.serve.sinks import Event
from emotalking.serve.speech import sentences

from .talking import FakeAvatar, client, serving, sound, until


def test_error_of_one_session_ends_it_alone() -> None:
    with serving() as server, client(server) as one, client(server) as other:
        greeting = one.event("hello")
        other.event("hello")
        session = server.scheduler.find(greeting["session"], greeting["secret"])
        assert session is not None

        def fail() -> None:
            raise ZeroDivisionError("of this test")

        session.player.conditions = fail  # type: ignore[assignment]
        assert one.event("bye")["reason"] == "an internal error of the server"
        assert one.code() == 1000
        other.speak(sound(0.2))
        other.event("ended")
        assert [one.id for one in server.scheduler.sessions] == [other.events[0]["session"]]


def test_avatar_that_cannot_be_rendered_ends_its_sessions_alone() -> None:
    broken = FakeAvatar()
    with serving({"disc": FakeAvatar(), "broken": broken}) as server:
        with client(server, "avatar=broken") as one, client(server, "avatar=disc") as other:
            one.frame(), other.frame()
            broken.broken = True
            one.event("bye")
            other.speak(sound(0.2))
            other.event("ended")


def test_end_in_order() -> None:
    before = threading.active_count()
    with serving() as server, client(server) as one:
        one.event("hello")
        one.speak(sound(5.0))
        one.frame(lambda frame: bool(frame.utterance))
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        assert one.event("bye")["reason"] == "the server stops"
        assert one.code() == 1001
        stopping.join()
    until(lambda: threading.active_count() <= before + 4)  # the threads that decode torso layers stay


class Shown:
    """A sink that counts images."""

    images = 0

    def frame(self, frame: LiveFrame) -> None:
        self.images += frame.image is not None

    def event(self, event: Event) -> None: ...


def test_sessions_are_shared_among_devices() -> None:
    """Two schedulers of one CPU each: a session is placed where there are fewer, rendered there, and counted there."""
    avatars = [FakeAvatar(), FakeAvatar()]
    with Scheduler({"disc": avatars[0]}, ServeSettings(), [{"disc": avatars[1]}]) as scheduler:
        sessions = [scheduler.open("disc") for _ in range(4)]
        assert [session.player.avatar is avatars[1] for session in sessions] == [False, True, False, True]
        scheduler.close(sessions[0], "of this test")
        scheduler.close(sessions[2], "of this test")
        assert [scheduler.open("disc").player.avatar for _ in range(2)] == [avatars[0]] * 2
        shown = [Shown(), Shown()]
        for session, sink in zip((scheduler.sessions[-1], sessions[1]), shown, strict=True):
            session.attach(sink)
        scheduler.wake()
        until(lambda: all(sink.images > 2 for sink in shown))
        page = scheduler.metrics.page().decode()
        for number in range(2):
            assert f'emotalking_sessions_placed{{device="cpu/{number}"}} 2.0' in page
            assert float(re.search(rf'emotalking_frames_total{{device="cpu/{number}"}} (\S+)', page)[1]) > 2
        newer = [FakeAvatar(), FakeAvatar()]
        scheduler.add("disc", *newer)
        assert [scheduler.open("disc").player.avatar for _ in range(2)] == newer
    assert not any(thread.name.startswith("serve-render") for thread in threading.enumerate())


def test_a_session_that_cannot_be_made_leaves_its_place() -> None:
    avatars = [FakeAvatar(), FakeAvatar()]
    with Scheduler({"disc": avatars[0]}, ServeSettings(), [{"disc": avatars[1]}]) as scheduler:
        for _ in range(3):
            with pytest.raises(InputError, match="no avatar"):
                scheduler.open("nobody")
        assert scheduler.open("disc").player.avatar is avatars[0]
    with pytest.raises(InputError, match="same"):
        Scheduler({"disc": avatars[0]}, ServeSettings(), [{"other": avatars[1]}])


def test_unknown_avatar_and_none() -> None:
    with serving() as server, client(server, "avatar=nobody") as one:
        assert "no avatar" in one.event("error")["message"]
        assert one.code() == 4404
    with pytest.raises(InputError, match="no avatar to serve"):
        emotalking.serve([])


def test_a_server_begins_without_an_avatar_and_gets_one() -> None:
    with LiveServer({}, ServeSettings(port=0)) as server:
        server.start()
        with client(server) as one:
            assert "no avatar yet" in one.event("error")["message"]
        server.scheduler.add("disc", FakeAvatar())
        with client(server) as one:
            assert one.event("hello")["avatar"] == "disc"


def test_sentences() -> None:
    text = 'He said "Stop!" Then he went.\nPi is 3.14, isn\'t it? ... 你好。再见！ the end'
    assert list(sentences(text)) == [
        'He said "Stop!"', "Then he went.", "Pi is 3.14, isn't it? ...", "你好。", "再见！", "the end"
    ]  # fmt: skip
    assert list(sentences("  ?! ")) == ["?!"] and list(sentences(" \n ")) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_ends_in_order(number: signal.Signals, avatar_file: Path) -> None:
    command = [sys.executable, "-m", "emotalking", "serve", str(avatar_file), "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
                break
        else:
            pytest.fail("".join(lines))
        from websockets.sync.client import connect

        with connect(
            f"ws://127.0.0.1:{found[1]}/v1/session?avatar={avatar_file.stem}",
            subprotocols=["emotalking.v1"],
            max_queue=None,
        ) as socket:
            assert json.loads(socket.recv(60))["type"] == "hello"
            process.send_signal(number)
            reasons = [json.loads(one) for one in socket if isinstance(one, str)]
            assert reasons[-1] == {"type": "bye", "reason": "the server stops"}
        rest = process.stderr.read()
        assert process.wait(60) == 0
        assert "the server has stopped" in rest and "Traceback" not in rest
