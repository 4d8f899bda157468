"""STUN and TURN servers: from a file or the environment to aiortc and clients, and a real relay where there is one."""

import asyncio
import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

pytest.importorskip("aiortc", reason="aiortc is not installed (extra serve)")

import aioice.ice
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from emotalking.errors import InputError
from emotalking.serve.ice import VARIABLE, IceServer, ice_servers
from emotalking.serve.scheduler import Scheduler
from emotalking.serve.server import LiveServer
from emotalking.serve.settings import ServeSettings
from emotalking.serve.webrtc import Peer, configuration, webrtc_router

from .talking import LONG_S, FakeAvatar

TURN = {"urls": "turn:127.0.0.1:3478?transport=tcp", "username": "head", "credential": "hidden-word"}
TURNSERVER = shutil.which("turnserver")


def test_servers_come_from_an_address_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert ice_servers(None) == []
    assert ice_servers("stun:stun.example.org:3478") == [IceServer(urls=["stun:stun.example.org:3478"])]
    file = tmp_path / "ice.json"
    file.write_text(json.dumps([{"urls": ["stun:a:1", "stun:b:2"]}, TURN]))
    found = ice_servers(file)
    assert [one.urls for one in found] == [["stun:a:1", "stun:b:2"], [TURN["urls"]]]
    assert found[1].credential == "hidden-word" and "hidden-word" not in repr(found)
    monkeypatch.setenv(VARIABLE, json.dumps([TURN]))
    assert ice_servers(None) == found[1:]
    monkeypatch.setenv(VARIABLE, str(file))
    assert ice_servers(None) == found
    used = configuration(found).iceServers
    assert used is not None and [one.urls for one in used] == [one.urls for one in found]
    assert (used[1].username, used[1].credential) == ("head", "hidden-word")
    assert configuration([]).iceServers == [], "aiortc would ask a public server"


@pytest.mark.parametrize(
    "content, says",
    [
        ("nonsense", "json"),
        ("{}", "list"),
        ('[{"urls": []}]', "urls"),
        ('[{"urls": "http://a"}]', "begins with stun"),
        ('[{"urls": "turn:a", "credential": "hidden-word"}]', "needs username and credential"),
        ('[{"urls": "turn:a", "username": "hidden-word", "credential": 5}]', "credential"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(content: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "ice.json"
    file.write_text(content)
    with pytest.raises(InputError, match=says) as told:
        ice_servers(file)
    assert str(file) in str(told.value) and "hidden-word" not in str(told.value)
    with pytest.raises(InputError, match="cannot be read"):
        ice_servers(tmp_path / "nothing.json")


def test_clients_get_the_servers_behind_the_token() -> None:
    settings = ServeSettings(port=0, token="a-secret-of-tests")
    with LiveServer({"disc": FakeAvatar()}, settings, [webrtc_router([IceServer.model_validate(TURN)])]) as server:
        server.start()
        address = f"http://127.0.0.1:{server.port}/v1/ice"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(address, timeout=LONG_S)
        asked = urllib.request.Request(address, headers={"Authorization": "Bearer a-secret-of-tests"})
        with urllib.request.urlopen(asked, timeout=LONG_S) as answer:
            assert json.load(answer) == {"iceServers": [{**TURN, "urls": [TURN["urls"]]}]}
        assert "hidden-word" not in server.link


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[IceServer]:
    """coturn on the loopback address."""
    if TURNSERVER is None:
        pytest.skip("needs coturn's turnserver")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [TURNSERVER, "-n", "-L", "127.0.0.1", "-E", "127.0.0.1", "-p", str(port), "--realm", "test"]
    command += ["--lt-cred-mech", "--user", "head:hidden-word", "--allow-loopback-peers", "--no-tls", "--no-dtls"]
    command += ["--no-cli", "--cli-password", "x", "--log-file", "stdout", "--pidfile", str(tmp_path / "pid")]
    command += ["--userdb", str(tmp_path / "db"), "--min-port", "50000", "--max-port", "50100"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        yield IceServer(urls=[f"turn:127.0.0.1:{port}?transport=udp"], username="head", credential="hidden-word")
        process.terminate()


def test_frames_come_through_a_relay(relay: IceServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])

    async def run() -> None:
        session = scheduler.open("disc")
        viewer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        viewer.createDataChannel("emotalking.v1")
        viewer.addTransceiver("video", "recvonly")
        await viewer.setLocalDescription(await viewer.createOffer())
        for _ in range(50):  # until coturn listens
            peer = Peer(session, scheduler, scheduler.settings, ice=[relay])
            answer = await peer.answer(viewer.localDescription.sdp)
            if "typ relay" in answer:
                break
            await peer.close()
            await asyncio.sleep(0.2)
        lines = answer.splitlines(keepends=True)
        relayed = "".join(line for line in lines if "a=candidate" not in line or "typ relay" in line)
        assert "typ relay" in relayed and len(relayed) < len(answer)
        await viewer.setRemoteDescription(RTCSessionDescription(relayed, "answer"))
        track = viewer.getReceivers()[0].track
        image = await asyncio.wait_for(track.recv(), LONG_S)
        assert image.width == 64
        await viewer.close()
        await peer.close()

    with Scheduler({"disc": FakeAvatar(64, Fraction(25))}, ServeSettings()) as scheduler:
        asyncio.run(run())
