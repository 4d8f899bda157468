"""The live server on Ray Serve: places, limits, drain; with Ray, a node that is lost in the middle of a session."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

pytest.importorskip("fastapi", reason="needs the extra emotalking[serve]")

from fastapi import HTTPException
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from emotalking.errors import InputError
from emotalking.serve import cluster
from emotalking.serve.cluster import ClusterSettings, Heads, by_free_places, read_settings
from emotalking.serve.protocol import SUBPROTOCOL

LONG_S = 60.0


def open_session(address: str, query: str = "") -> tuple[ClientConnection, dict[str, Any]]:
    """A connection to the server of a place, and its greeting or complaint."""
    client = connect(f"{address}v1/session{query}", subprotocols=[SUBPROTOCOL], max_size=None)
    return client, json.loads(client.recv(LONG_S))


def last_words(client: ClientConnection) -> tuple[dict[str, Any], int]:
    """The last event of a connection, and the code that closed it."""
    last: dict[str, Any] = {}
    while True:
        try:
            message = client.recv(LONG_S)
        except ConnectionClosed as closed:
            assert closed.rcvd is not None
            return last, closed.rcvd.code
        if isinstance(message, str):
            last = json.loads(message)


def settings(avatar: Path, **changes: Any) -> ClusterSettings:
    return read_settings({"avatars": [str(avatar)], "host": "127.0.0.1", "max_sessions": 2, **changes})


@pytest.fixture
def heads(avatar_file: Path) -> Iterator[Heads]:
    one = Heads(settings(avatar_file, drain_s=0.5))
    yield one
    one.server.stop()


def test_places_are_promised_and_bounded(heads: Heads, monkeypatch: pytest.MonkeyPatch) -> None:
    address = heads.place()
    assert heads.record_routing_stats() == {"free": 1}
    client, greeting = open_session(address)
    assert greeting["type"] == "hello"
    assert heads.record_routing_stats() == {"free": 1}  # the promise was kept
    heads.place()
    with pytest.raises(HTTPException, match="503"):
        heads.place()
    monkeypatch.setattr(cluster, "_PROMISE_S", 0.0)  # nobody came to that place
    assert heads.record_routing_stats() == {"free": 1}
    client.close()


def test_resume_reaches_the_same_server(heads: Heads) -> None:
    address = heads.place()
    client, greeting = open_session(address)
    client.socket.close()
    again, second = open_session(address, f"?resume={greeting['session']}&secret={greeting['secret']}")
    assert second["resumed"] and second["session"] == greeting["session"]
    again.close()


def test_drain_lets_sessions_go_on_and_takes_none(heads: Heads) -> None:
    address = heads.place()
    client, _ = open_session(address)
    started = time.monotonic()

    async def drain() -> tuple[dict[str, Any], int]:
        ending = asyncio.create_task(heads.drain())
        await asyncio.sleep(0.1)
        refused = await asyncio.to_thread(lambda: open_session(address)[1])
        assert refused == {"type": "error", "message": "the server stops."}
        words = await asyncio.to_thread(last_words, client)
        await ending
        return words

    assert asyncio.run(drain()) == ({"type": "bye", "reason": "the server stops"}, 1001)
    assert time.monotonic() - started >= 0.5
    with pytest.raises(RuntimeError, match="render thread"):
        heads.check_health()


def test_drain_ends_with_the_last_session(avatar_file: Path) -> None:
    one = Heads(settings(avatar_file, drain_s=1e6))
    client, _ = open_session(one.place())
    client.close()
    asyncio.run(one.drain())  # does not wait for a million seconds
    assert not one.server.scheduler.alive


def test_servers_of_one_node_take_different_ports(heads: Heads, avatar_file: Path) -> None:
    first = heads.server.port
    other = Heads(settings(avatar_file, ports=[first, first + 20], address="wss://head.example.org/at/{host}/{port}/"))
    assert first < other.server.port <= first + 20
    assert other.place() == f"wss://head.example.org/at/127.0.0.1/{other.server.port}/"
    other.check_health()
    other.server.stop()
    with pytest.raises(InputError, match=f"port {first} "):
        Heads(settings(avatar_file, ports=[first, first]))


def ask(app: Any, kind: str, path: str, headers: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """Messages of an ASGI application to one request."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    given = [(name.encode(), value.encode()) for name, value in {"host": "localhost", **(headers or {})}.items()]
    scope = {"type": kind, "path": path, "raw_path": path.encode(), "query_string": b"", "headers": given}
    scope |= {"method": "GET", "subprotocols": [SUBPROTOCOL], "root_path": "", "scheme": "http", "client": None}
    asyncio.run(app(scope, receive, send))
    return sent


def test_front_gives_places_and_no_sessions(heads: Heads) -> None:
    front = heads.__serve_build_asgi_app__()
    status, body = ask(front, "http", "/v1/place")
    assert (status["status"], json.loads(body["body"])) == (200, {"address": f"ws://127.0.0.1:{heads.server.port}/"})
    assert ask(front, "http", "/")[0]["status"] == 200
    assert ask(front, "http", "/metrics")[0]["status"] == 404
    assert ask(front, "http", "/v1/place", {"origin": "http://elsewhere.example"})[0]["status"] == 403
    assert ask(front, "http", "/v1/place", {"host": "elsewhere.example"})[0]["status"] == 421
    assert [one["type"] for one in ask(front, "websocket", "/v1/session")] == ["websocket.close"]


def test_front_needs_the_token(avatar_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cluster.TOKEN, "a-secret-word")
    one = Heads(settings(avatar_file, allowed_hosts=["head.example.org"]))
    front = one.__serve_build_asgi_app__()
    host = {"host": "head.example.org"}
    assert ask(front, "http", "/v1/place", host)[0]["status"] == 401
    assert ask(front, "http", "/v1/place", {**host, "authorization": "Bearer a-secret-word"})[0]["status"] == 200
    one.server.stop()


def test_settings_are_refused_in_a_sentence(avatar_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cluster.TOKEN, raising=False)
    for changes, sentence in (
        ({"replicas": 3}, "replicas"),
        ({"avatars": []}, "avatars"),
        ({"ports": [9, 3]}, "ports"),
        ({"drain_s": -1.0}, "drain_s"),
        ({"report_s": 0.0}, "report_s"),
        ({"address": "ws://{node}/"}, "address"),
        ({"max_sessions": "many"}, "max_sessions"),
        ({"host": "0.0.0.0"}, "a token is needed"),
        ({"look_ahead_ms": 5}, "look-ahead"),
    ):
        with pytest.raises(InputError, match=sentence):
            settings(avatar_file, **changes)
    with pytest.raises(InputError, match="same name"):
        Heads(settings(avatar_file, avatars=[str(avatar_file), str(avatar_file)]))


@dataclass(frozen=True)
class Replica:
    """What Ray Serve's router shows of one."""

    name: str
    routing_stats: dict[str, int]


def test_choice_prefers_free_places() -> None:
    full = [Replica(f"full{number}", {"free": 0}) for number in range(6)]
    few, many, new = Replica("few", {"free": 1}), Replica("many", {"free": 5}), Replica("new", {})
    seen = set()
    for _ in range(50):
        ranks = [group[0].name for group in by_free_places([*full, few, many, new])]
        assert sorted(ranks) == sorted(one.name for one in [*full, few, many, new])
        assert not ranks[0].startswith("full") and not ranks[1].startswith("full")
        assert "many" not in ranks[:2] or ranks[0] == "many"
        seen.add(ranks[0])
    assert seen == {"many", "few", "new"}
    assert len(by_free_places(full)) == 6


# The files of examples/cluster ----------------------------------------------------------------------------------------

FILES = Path(__file__).parents[2] / "examples" / "cluster"


def test_configurations_name_settings_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    monkeypatch.setenv(cluster.TOKEN, "a-secret-word")
    service = next(
        one for one in yaml.safe_load_all((FILES / "kubernetes.yaml").read_text("utf-8")) if one["kind"] == "RayService"
    )
    for text in ((FILES / "serve.yaml").read_text("utf-8"), service["spec"]["serveConfigV2"]):
        (application,) = yaml.safe_load(text)["applications"]
        assert application["import_path"] == f"{cluster.__name__}:{cluster.app.__name__}"
        assert read_settings(application["args"]).allowed_hosts == ("head.example.org",)
        assert [one["name"] for one in application["deployments"]] == ["Heads"]
    pods = [service["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["template"]["spec"]]
    drain_s = read_settings(application["args"]).drain_s
    (timeout,) = [one for one in pods[0]["containers"][0]["env"] if one["name"].endswith("DRAIN_TIMEOUT_S")]
    assert drain_s < float(timeout["value"]) < pods[0]["terminationGracePeriodSeconds"]


def test_doors_lead_to_sessions_of_the_nodes_alone() -> None:
    rules = [
        re.search(r'location ~ "(.*)" \{', (FILES / name).read_text("utf-8"))
        for name in ("nginx.conf", "kubernetes.yaml")
    ]
    assert rules[0] is not None and rules[1] is not None and rules[0][1] == rules[1][1]
    rule = re.compile(rules[0][1].replace("(?<", "(?P<"))
    for path in ("/at/10.1.2.3/8100/v1/session", "/at/10.0.0.1/8199/v1/offer", "/at/10.0.0.1/8100/v1/ice"):
        assert rule.search(path), path
    for path in (
        "/at/169.254.169.254/8100/v1/session",
        "/at/10.1.2.3/8265/v1/session",
        "/at/10.1.2.3/80/v1/session",
        "/at/10.1.2.3/8100/metrics",
        "/at/10.1.2.3/8100/v1/session/../../metrics",
        "/at/head.example.org/8100/v1/session",
        "/at/10.1.2.3.example.org/8100/v1/session",
    ):
        assert not rule.search(path), path


@pytest.mark.skipif(sys.platform != "linux", reason="a script for Linux")
def test_slurm_script_runs_a_command_and_gives_its_code(tmp_path: Path) -> None:
    """With stand-ins for Slurm's commands, Ray and Python: the head first, then the others, then the command."""
    stand_ins = {
        "scontrol": 'printf "one\\ntwo\\nthree\\n"',
        "hostname": 'echo "10.0.0.1 172.17.0.1"',
        "srun": 'while [[ "$1" == --* ]]; do echo "srun $1" >> "$RECORD"; shift; done; exec "$@"',
        "ray": 'echo "ray $*" >> "$RECORD"',
        "python": """cat > /dev/null
            until [ "$(grep -c 'ray start' "$RECORD" 2>&1)" = "$(($2 > 1 ? 2 : 1))" ]; do sleep 0.02; done
            echo "wait for $2" >> "$RECORD\"""",
    }
    for name, text in stand_ins.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "RECORD": str(tmp_path / "record"),
        "SLURM_JOB_ID": "1234567",
        "SLURM_JOB_NODELIST": "node[1-3]",
        "SLURM_JOB_NUM_NODES": "3",
        "SLURM_CPUS_PER_TASK": "16",
        "SLURM_GPUS_ON_NODE": "2",
    }
    command = ["bash", FILES / "slurm.sh", "bash", "-c", 'echo "command at $RAY_ADDRESS" >> "$RECORD"; exit 7']
    done = subprocess.run(command, env=environment, check=False, timeout=LONG_S, capture_output=True, text=True)
    record = (tmp_path / "record").read_text().splitlines()
    assert done.returncode == 7, done.stderr
    assert [line for line in record if line.startswith("wait")] == ["wait for 1", "wait for 3"]
    assert "command at 10.0.0.1:24567" in record
    starts = [line for line in record if line.startswith("ray start")]
    assert starts[0].startswith("ray start --head --node-ip-address=10.0.0.1 --port=24567")
    assert starts[1].startswith("ray start --address=10.0.0.1:24567")
    assert all("--num-cpus=16 --num-gpus=2" in line for line in starts)
    assert "srun --exclude=one" in record and "srun --nodelist=one" in record


# On Ray ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def nodes(avatar_file: Path) -> Iterator[tuple[Any, str]]:
    """A cluster of a head and two nodes with a replica each, made by the example's configuration, and its front."""
    ray = pytest.importorskip("ray", reason="needs the extra emotalking[serve-cluster]")
    serve = pytest.importorskip("ray.serve", reason="needs the extra emotalking[serve-cluster]")
    import yaml
    from ray.cluster_utils import Cluster
    from ray.serve.context import _get_global_client
    from ray.serve.schema import ServeDeploySchema

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = yaml.safe_load((FILES / "serve.yaml").read_text("utf-8"))
    config["http_options"] = {"host": "127.0.0.1", "port": port}
    application = config["applications"][0]
    application["args"] = {"avatars": [str(avatar_file)], "host": "127.0.0.1", "drain_s": 1.0}
    application["deployments"][0] |= {"num_replicas": 2, "ray_actor_options": {"num_cpus": 1, "resources": {"gpu": 1}}}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        for _ in range(2):
            made.add_node(num_cpus=1, resources={"gpu": 1})
        ray.init(address=made.address, logging_level="ERROR")
        serve.start(http_options=config["http_options"])
        _get_global_client().deploy_apps(ServeDeploySchema.model_validate(config), _blocking=True)
        yield made, f"http://127.0.0.1:{port}"
        serve.shutdown()
    finally:
        ray.shutdown()
        made.shutdown()


def find_place(front: str, wanted: Callable[[str], bool] = lambda address: True) -> str:
    """Ask for a place until it is one that is wanted."""
    until = time.monotonic() + LONG_S
    while time.monotonic() < until:
        with suppress(OSError):  # no place is free, or the front looks for its replicas
            address = json.load(urlopen(f"{front}/v1/place", timeout=LONG_S))["address"]
            if wanted(address):
                return address
        time.sleep(0.2)
    raise AssertionError("there is no such place")


def test_lost_node_takes_its_sessions_alone(nodes: tuple[Any, str]) -> None:
    made, front = nodes
    address = find_place(front)
    other = find_place(front, lambda found: found != address)
    sessions = {one: open_session(one) for one in (address, other)}
    made.remove_node(next(iter(made.worker_nodes)), allow_graceful=False)
    gone, kept = (address, other) if is_gone(address) else (other, address)
    with pytest.raises(ConnectionClosed):
        while True:
            sessions[gone][0].recv(LONG_S)
    for _ in range(50):  # two seconds of frames
        sessions[kept][0].recv(LONG_S)

    greeting = sessions[gone][1]
    assert find_place(front) == kept
    resume = f"?resume={greeting['session']}&secret={greeting['secret']}"
    refused, complaint = open_session(kept, resume)
    assert complaint == {"type": "error", "message": "this session has ended: open a new one."}
    assert last_words(refused)[1] == 4404
    again, second = open_session(kept)
    assert second["type"] == "hello"
    again.send(json.dumps({"type": "audio", "sample_rate": 16000, "format": "s16"}))
    again.send(bytes(2 * 8000))
    again.send(json.dumps({"type": "flush"}))
    while (message := again.recv(LONG_S)) is not None:
        if isinstance(message, str) and json.loads(message)["type"] == "ended":
            break

    made.add_node(num_cpus=1, resources={"gpu": 1})
    back, third = open_session(find_place(front, lambda found: found != kept))
    assert third["type"] == "hello"
    for one in (again, back, sessions[kept][0]):
        one.close()


def is_gone(address: str) -> bool:
    """True if nobody listens there any more."""
    host, port = address.removeprefix("ws://").rstrip("/").split(":")
    try:
        socket.create_connection((host, int(port)), LONG_S).close()
    except OSError:
        return True
    return False
