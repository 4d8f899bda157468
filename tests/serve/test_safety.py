"""What strangers may try: names, origins, tokens, sizes, floods, slow reading, and what is left after them."""

import contextlib
import gc
import http.client
import json
import os
import socket
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra emotalking[serve]")

from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from emotalking.errors import InputError
from emotalking.player import torso_layers
from emotalking.serve import connections
from emotalking.serve.protocol import SUBPROTOCOL
from emotalking.serve.safety import HEADERS, LONGEST_BODY, Allowance
from emotalking.serve.server import LiveServer
from emotalking.serve.settings import ServeSettings

from .talking import RATE, FakeAvatar, client, serving, sound, until

TOKEN = "a-token-of-this-test"


def ask(server: LiveServer, path: str, headers: dict[str, str] | None = None, method: str = "GET", body: bytes = b""):
    """Status, headers and body of a request."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, path, body or None, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def refusal(server: LiveServer, **options: object) -> int:
    """Status with which a WebSocket is refused."""
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{server.port}/v1/session", **{"subprotocols": [SUBPROTOCOL]} | options)
    return refused.value.response.status_code


def test_names_and_origins() -> None:
    with serving() as server:
        port = server.port
        for host in ("evil.example", "evil.example:80", "10.0.0.1", "", "a b", "[::1", "localhost.evil.example"):
            assert ask(server, "/health", {"Host": host})[0] in (400, 421), host
        for host in ("localhost", "127.0.0.1", f"127.0.0.1:{port}", f"localhost:{port}", "[::1]:80"):
            assert ask(server, "/health", {"Host": host})[0] == 200, host
        own = f"http://127.0.0.1:{port}"
        assert ask(server, "/v1/avatars", {"Origin": own})[0] == 200
        for origin in ("https://evil.example", "null", f"http://localhost:{port}", f"{own}.evil.example", "file://"):
            assert ask(server, "/v1/avatars", {"Origin": origin})[0] == 403, origin
            assert refusal(server, origin=origin) == 403
        with client(server, origin=own) as one:
            one.frame()
        assert b'requests_refused_total{reason="origin"} 10.0' in ask(server, "/metrics")[2]


def test_token() -> None:
    with serving(token=TOKEN) as server:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}, {"Authorization": "Bearer é"}):
            assert ask(server, "/v1/avatars", headers)[0] == 401
            assert ask(server, "/metrics", headers)[0] == 401
        assert ask(server, "/health")[0] == 200
        assert ask(server, "/v1/avatars", {"Authorization": f"Bearer {TOKEN}"})[0] == 200
        assert refusal(server) == 401
        assert refusal(server, subprotocols=[SUBPROTOCOL, "token.wrong"]) == 401
        with client(server, subprotocols=[SUBPROTOCOL, f"token.{TOKEN}"]) as one:
            assert one.socket.subprotocol == SUBPROTOCOL  # the token is not sent back
            one.frame()
        assert server.link.endswith(f"/#token={TOKEN}")


def test_settings_that_are_not_safe_are_refused() -> None:
    with pytest.raises(InputError, match="token is needed"):
        ServeSettings(host="0.0.0.0")
    with pytest.raises(InputError, match="token is needed"):
        ServeSettings(allowed_hosts=("head.example.org",))
    with pytest.raises(InputError, match="at least 8"):
        ServeSettings(token="short")
    with pytest.raises(InputError, match="at least 8"):
        ServeSettings(token="with spaces in it")
    for wrong in ({"port": 70000}, {"max_sessions": 0}, {"idle_minutes": 0.0}, {"look_ahead_ms": 5}):
        with pytest.raises(InputError):
            ServeSettings(**wrong)


def test_server_behind_a_proxy_answers_to_its_name() -> None:
    with serving(token=TOKEN, allowed_hosts=("head.example.org",)) as server:
        known = {"Authorization": f"Bearer {TOKEN}"}
        proxied = {"Host": "head.example.org", "Origin": "https://head.example.org", **known}
        assert ask(server, "/v1/avatars", proxied)[0] == 200
        assert ask(server, "/v1/avatars", {**proxied, "Origin": "https://other.example.org"})[0] == 403
        assert ask(server, "/v1/avatars", {**proxied, "Host": "other.example.org"})[0] == 421


def test_address_in_use_and_unknown_address() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="port"):
            LiveServer({"disc": FakeAvatar()}, ServeSettings(port=taken.getsockname()[1]))
    with pytest.raises(InputError, match="address"):
        LiveServer({"disc": FakeAvatar()}, ServeSettings(host="no.such.name.invalid", token=TOKEN))


def test_headers_and_facts() -> None:
    with serving({"disc": FakeAvatar(), "one / two?": FakeAvatar(64)}) as server:
        for path in ("/health", "/nothing", "/v1/avatars", "/metrics"):
            headers = ask(server, path)[1]
            assert {name: headers[name] for name in HEADERS} == HEADERS
            assert headers["server"] is None
        assert ask(server, "/health", {"Host": "evil.example"})[1]["x-content-synthetic"] == "true"
        told = json.loads(ask(server, "/v1/avatars")[2])
        assert told["synthetic"] is True and [one["name"] for one in told["avatars"]] == ["disc", "one / two?"]
        assert (told["avatars"][0]["width"], told["avatars"][0]["fps"]) == (32, 50.0)
        for one in told["avatars"]:
            status, headers, body = ask(server, one["thumbnail"])
            assert status == (200 if "/ " not in one["name"] else status) and headers["content-type"]
        assert ask(server, told["avatars"][0]["thumbnail"])[2][:2] == b"\xff\xd8"


def test_no_path_comes_from_a_client(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    with serving() as server, client(server) as one:
        for path in (
            "/../../etc/passwd",
            "/..%2f..%2fetc/passwd",
            f"/v1/avatars/{str(secret).replace('/', '%2f')}/image",
            f"/v1/avatars/{secret}/image",
            "/v1/avatars/../../etc/passwd/image",
            "//etc/passwd",
            "/v1/avatars/disc%00/image",
        ):
            assert ask(server, path)[0] == 404, path
        one.event("hello")
        one.send("background", colour=str(secret))
        assert "malformed" in one.event("error")["message"]
        one.send("avatar", name=str(secret))
        assert "secret" not in one.event("error")["message"]


def test_requests_that_are_too_large_or_none() -> None:
    with serving() as server:
        assert ask(server, "/v1/avatars", {"Content-Length": str(LONGEST_BODY + 1)})[0] == 413
        for rubbish in (b"\x00" * 5000, b"GET / HTTP/9.9\r\n\r\n", b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", server.port), 60) as raw:
                with contextlib.suppress(OSError):
                    raw.sendall(rubbish)
                answer = b""
                with contextlib.suppress(OSError):
                    answer = raw.recv(100)
                assert not answer or answer.startswith(b"HTTP/1.1 4")
        assert ask(server, "/health")[0] == 200


def test_connection_that_asks_for_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_REQUEST_S", 0.1)
    with serving() as server, socket.create_connection(("127.0.0.1", server.port), 60) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: local")
        assert raw.recv(100) == b""
    with serving() as server, socket.create_connection(("127.0.0.1", server.port), 60) as raw:
        raw.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while b"ok" not in answer:
            answer += raw.recv(4096)
        raw.sendall(b"GET / HTTP/1.1\r\n")
        assert raw.recv(100) == b""
    with serving() as server, client(server) as one:  # a WebSocket stays
        one.event("hello")
        one.speak(sound(0.5))
        one.event("ended")


@pytest.mark.parametrize(
    "message",
    [
        "rubbish",
        "[]",
        "null",
        "{}",
        '{"type": "unknown"}',
        '{"type": "emotion", "valence": 5, "arousal": 0}',
        '{"type": "emotion", "valence": NaN, "arousal": 0}',
        '{"type": "emotion", "valence": 0.5}',
        '{"type": "played", "frame": -1}',
        '{"type": "played", "frame": 1e400}',
        '{"type": "say", "text": 7}',
        '{"type": "audio", "sample_rate": 1, "format": "s16"}',
        '{"type": "image", "every": 0}',
        "[" * 30_000,
        "x" * 40_000,
        b"\x00\x01",
    ],
)
def test_malformed_messages_are_answered_and_then_end_the_session(message: str | bytes) -> None:
    with serving() as server, client(server) as one:
        one.event("hello")
        one.socket.send(message)
        assert len(one.event("error")["message"]) < 400
        one.frame()
        for _ in range(6):
            with contextlib.suppress(Exception):  # closed meanwhile
                one.socket.send(message)
        assert one.code() == 1008
        until(lambda: not server.scheduler.sessions)


def test_huge_message_and_flood() -> None:
    with serving(messages_per_s=5.0) as server:
        with client(server) as one:
            one.event("hello")
            with contextlib.suppress(Exception):  # closed before all of it was sent
                one.socket.send(b"\x00" * (2 << 20))
            assert one.code() in (1009, 1006)
        with client(server) as one:
            one.event("hello")
            for _ in range(40):
                with contextlib.suppress(Exception):  # closed meanwhile
                    one.send("ping", t=0)
            assert one.code() in (1008, 1006)  # what is still to be read at the server may reset the connection


def test_allowance_gives_bursts_and_a_rate() -> None:
    now = [0.0]
    allowance = Allowance(10.0, 2.0, clock=lambda: now[0])
    assert sum(allowance.take() for _ in range(100)) == 20
    now[0] = 1.0
    assert sum(allowance.take() for _ in range(100)) == 10


def test_subprotocol_is_needed() -> None:
    with serving() as server:
        assert refusal(server, subprotocols=None) == 400


def test_too_much_sound_is_refused_and_the_rest_is_said() -> None:
    spoken = sound(0.5)
    with serving(max_queued_s=1.0) as server, client(server) as one:
        one.event("hello")
        one.send("audio", sample_rate=RATE, format="s16")
        one.socket.send(spoken.astype("<i2").tobytes())
        one.socket.send(np.zeros(2 * RATE, "<i2").tobytes())
        assert "1 s of sound" in one.event("error")["message"]
        one.send("flush")
        one.event("ended")
    assert np.array_equal(one.said(), spoken)


def test_slow_reader_loses_images_and_then_its_session() -> None:
    avatar = FakeAvatar(size=512, noise=True)
    with serving({"noise": avatar}) as server:
        with client(server, max_queue=1) as one, client(server) as quick:
            one.event("hello")
            one.send("image", format="png")
            quick.event("hello")
            slow = server.scheduler.find(one.events[0]["session"], one.events[0]["secret"])
            assert slow is not None
            until(lambda: slow.ended is not None)
            assert "too slowly" in str(slow.ended) and slow.dropped > 0
            before = quick.frame().index
            assert quick.frame(lambda frame: frame.index > before + 50).index  # nobody else is affected
        assert "slow" in server.scheduler.metrics.page().decode()


def test_limits_of_sessions() -> None:
    with serving(max_sessions=2) as server:
        with client(server) as one, client(server) as two:
            one.event("hello"), two.event("hello")
            with client(server) as three:
                assert "try again later" in three.event("error")["message"]
                assert three.code() == 1013
            two.vanish()
            until(lambda: sum(session.attached for session in server.scheduler.sessions) == 1)
            with client(server) as four:  # takes the place of the one that waits
                four.event("hello")
                one.frame()


def test_sessions_of_an_address() -> None:
    with serving() as server:
        scheduler = server.scheduler
        kept = [scheduler.open("disc", "192.0.2.1") for _ in range(4)]
        scheduler.open("disc", "192.0.2.1")  # in place of the oldest without a client
        assert kept[0].ended is not None and kept[1].ended is None
        assert len(scheduler.sessions) == 4


def test_unused_session_ends() -> None:
    with serving(idle_minutes=0.002) as server, client(server) as one:
        one.event("hello")
        assert "nothing was sent" in one.event("bye")["reason"]
        assert one.code() == 1000
    with serving(max_minutes=0.002) as server, client(server) as one:
        assert "at most" in one.event("bye")["reason"]
    with serving(reconnect_s=0.1) as server, client(server) as one:
        one.event("hello")
        one.vanish()
        until(lambda: not server.scheduler.sessions)


def test_nothing_is_left_of_200_clients() -> None:
    def left() -> tuple[int, int]:
        gc.collect()
        return threading.active_count(), len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    with serving(messages_per_s=1000.0) as server:
        with client(server) as one:
            one.frame()
        until(lambda: not server.scheduler.sessions)
        pools = server.scheduler.workers, server.scheduler.encoders, torso_layers._pool
        for pool in pools:  # all their threads, which stay
            list(pool.map(lambda _: threading.Event().wait(0.05), range(pool._max_workers)))
        threads, files = left()
        for number in range(200):
            with client(server) as one:
                one.event("hello")
                one.speak(sound(0.1))
                if number % 2:
                    one.vanish()
        until(lambda: all(not session.attached for session in server.scheduler.sessions))
        server.scheduler.settings.__dict__["reconnect_s"] = 0.0
        until(lambda: not server.scheduler.sessions)
        until(lambda: left()[1] <= files and left()[0] <= threads)
        with client(server) as one:
            one.frame()
