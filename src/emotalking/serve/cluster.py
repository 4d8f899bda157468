"""The live server on Ray Serve (docs/cluster.md): a server in every replica, and a front that says which has room.

Ray Serve places, watches, restarts and drains the replicas. Its own HTTP proxies carry the page and the lists, but no
session: they copy every message between two processes, and keep without bound what a slow client does not read. A
client asks the front for a place (``GET /v1/place``) and connects to the server there, which is that of
`emotalking.serve` with all its limits; so a session stays with its replica, and so does its return.
"""

import asyncio
import os
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from random import sample
from typing import TYPE_CHECKING, Any

from fastapi import HTTPException
from pydantic import ConfigDict, TypeAdapter, ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from emotalking.errors import InputError, MissingPackageError
from emotalking.models.avatar import Avatar
from emotalking.ops.devices import choose_device
from emotalking.options import Device
from emotalking.serve.app import make_app
from emotalking.serve.ice import ice_servers
from emotalking.serve.job_routes import job_router
from emotalking.serve.server import LiveServer
from emotalking.serve.settings import ServeSettings, is_loopback
from emotalking.serve.studio import page_router
from emotalking.serve.webrtc import webrtc_router

if TYPE_CHECKING:
    from ray.serve import Application  # pyright: ignore[reportMissingImports]

TOKEN = "EMOTALKING_TOKEN"
"""Environment variable with the token, on every node: it is in no configuration file and on no dashboard."""
_PROMISE_S = 5.0
"""Time for which a place is kept for a client that was sent to it."""
_HEALTH_S = 5.0
_FAREWELL_S = 20.0
"""Time that Ray Serve gives a replica beyond its drain."""
_PROXY_PATHS = ("/metrics",)
"""Paths that mean one server, of which the front would give that of any replica."""


@dataclass(frozen=True)
class ClusterSettings:
    """Settings of the servers, as they stand under ``args`` in Ray Serve's configuration.

    Number of replicas, and GPUs and CPUs of each, are Ray Serve's own (``num_replicas``, ``ray_actor_options``).
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    avatars: tuple[Path, ...]
    """Avatar files, on every node; clients know each by its file's name without the ending."""
    address: str = "ws://{host}:{port}/"
    """How clients reach the server of a replica: ``{host}`` is its node's address, ``{port}`` its port."""
    host: str = "0.0.0.0"
    """Address to listen on, of every node; a loopback address needs no token."""
    ports: tuple[int, int] = (8100, 8199)
    """Ports of the servers, of which each takes the first that is free on its node."""
    allowed_hosts: tuple[str, ...] = ()
    """Names of the front and of a proxy before it."""
    max_sessions: int = 8
    """Sessions of a replica at a time."""
    sessions_per_address: int | None = None
    """Those of one client's address, of a replica; None: half. Behind a proxy all clients have its address."""
    max_minutes: float | None = None
    idle_minutes: float = 10.0
    look_ahead_ms: int = 120
    drain_s: float = 300.0
    """A replica that is to stop takes no new session, and lets the open ones go on for so long; then they get ``bye``.
    """
    report_s: float = 1.0
    """Time between reports of a replica's free places, which the front chooses by; more for hundreds of replicas."""
    ice_servers: str | None = None
    """As of `emotalking.serve`: a STUN server or a JSON file, on every node."""
    device: Device = "auto"

    def __post_init__(self) -> None:
        if not self.avatars:
            raise ValueError("avatars: give at least one file")
        if not 0 < self.ports[0] <= self.ports[1] <= 65535:
            raise ValueError("ports: give the first and the last of a range within 1 to 65535")
        if not self.drain_s >= 0:
            raise ValueError("drain_s: give 0 or more seconds")
        if not self.report_s > 0:
            raise ValueError("report_s: give a positive number of seconds")
        try:
            self.address.format(host="", port=0)
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError("address: use {host} and {port} alone between braces") from error

    def server(self, port: int) -> ServeSettings:
        """Settings of the server of a replica."""
        return ServeSettings(
            host=self.host,
            port=port,
            token=os.environ.get(TOKEN) or None,
            allowed_hosts=self.allowed_hosts,
            max_sessions=self.max_sessions,
            sessions_per_address=self.sessions_per_address,
            max_minutes=self.max_minutes,
            idle_minutes=self.idle_minutes,
            look_ahead_ms=self.look_ahead_ms,
        )


class Heads:
    """A replica: a live server on a port of its node, and the front for any of them.

    Raises:
        InputError: an avatar, the token or a setting cannot be used, or no port is free.
    """

    def __init__(self, settings: ClusterSettings) -> None:
        self._settings = settings
        device = choose_device(settings.device)
        avatars = {path.stem: Avatar.load(path, device) for path in settings.avatars}
        if len(avatars) < len(settings.avatars):
            raise InputError("two avatars have the same name: rename one of the files.")
        self.server = _listening(avatars, settings)
        self.server.start()
        self._lock = threading.Lock()
        self._promises: deque[float] = deque()

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Make the front, which Ray Serve's proxies ask."""
        routers = [page_router(self.place), job_router(None)]
        return _Front(make_app(self.server.scheduler, self.server.settings, routers))

    def place(self) -> str:
        """Address of this server, with a place for a new session that is kept for some seconds.

        Raises:
            HTTPException: there is none; with status 503.
        """
        with self._lock:
            if self._taken() >= self._settings.max_sessions:
                raise HTTPException(503, "all sessions are in use: try again later.")
            self._promises.append(time.monotonic())
        host = "127.0.0.1" if is_loopback(self._settings.host) else import_module("ray.util").get_node_ip_address()
        return self._settings.address.format(host=f"[{host}]" if ":" in host else host, port=self.server.port)

    def record_routing_stats(self) -> dict[str, int]:
        """Figures that the front chooses a replica by; Ray Serve collects them."""
        with self._lock:
            return {"free": self._settings.max_sessions - self._taken()}

    def check_health(self) -> None:
        """Raise an error if the server does not work any more; Ray Serve then starts another replica."""
        if not self.server.scheduler.alive:
            raise RuntimeError("the render thread has ended")
        host = "127.0.0.1" if self._settings.host == "0.0.0.0" else self._settings.host
        address = f"http://{f'[{host}]' if ':' in host else host}:{self.server.port}/health"
        with urllib.request.urlopen(address, timeout=_HEALTH_S) as answer:
            answer.read()

    async def drain(self) -> None:
        """Let the open sessions go on for some time, then end them in order."""
        self.server.scheduler.draining = True
        until = time.monotonic() + self._settings.drain_s
        while self.server.scheduler.sessions and time.monotonic() < until:
            await asyncio.sleep(0.2)
        await asyncio.to_thread(self.server.stop)

    def _taken(self) -> int:
        """Sessions with a client, and places that are kept for one."""
        since = time.monotonic() - _PROMISE_S
        while self._promises and self._promises[0] < since:
            self._promises.popleft()
        sessions = self.server.scheduler.sessions
        came = [session for session in sessions if session.created >= since]
        attached = [session for session in sessions if session.attached and session.created < since]
        return len(attached) + max(len(came), len(self._promises))


class _Deployed(Heads):
    """As Ray Serve ends it: it awaits the destructor, and kills the process after ``graceful_shutdown_timeout_s``."""

    async def __del__(self) -> None:
        if hasattr(self, "server"):  # it could be started
            await self.drain()


class _Front:
    """The application for Ray Serve's proxies: all but sessions, and what is of one server alone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "ask GET /v1/place where to connect"})
        elif scope["type"] == "http" and scope["path"] in _PROXY_PATHS:
            await send({"type": "http.response.start", "status": 404, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"ask the server of each replica\n"})
        else:
            await self._app(scope, receive, send)


def _listening(avatars: Mapping[str, Avatar], settings: ClusterSettings) -> LiveServer:
    """A server on the first free port."""
    first, last = settings.ports
    for port in range(first, last):
        try:
            return LiveServer(avatars, settings.server(port), [webrtc_router(ice_servers(settings.ice_servers))])
        except InputError as error:
            if not isinstance(error.__cause__, OSError):
                raise
    return LiveServer(avatars, settings.server(last), [webrtc_router(ice_servers(settings.ice_servers))])


def app(args: Mapping[str, Any]) -> "Application":
    """Build the application: ``import_path: emotalking.serve.cluster:app`` in Ray Serve's configuration.

    Args:
        args: fields of `ClusterSettings`.

    Raises:
        InputError: as `read_settings`.
        MissingPackageError: Ray is not installed.
    """
    if find_spec("ray") is None:
        raise MissingPackageError("this needs ray, which is not installed: pip install 'emotalking[serve-cluster]'.")
    settings = read_settings(args)
    serve = import_module("ray.serve")
    config = import_module("ray.serve.config")
    deployment = serve.deployment(
        name="Heads",
        health_check_period_s=_HEALTH_S,
        health_check_timeout_s=2 * _HEALTH_S,
        graceful_shutdown_timeout_s=settings.drain_s + _FAREWELL_S,
        request_router_config=config.RequestRouterConfig(
            request_router_class=f"{__name__}:MostPlaces", request_routing_stats_period_s=settings.report_s
        ),
    )
    return deployment(serve.ingress()(_Deployed)).bind(settings)


def read_settings(args: Mapping[str, Any]) -> ClusterSettings:
    """Settings of plain values.

    Raises:
        InputError: a field is unknown, missing or out of range, or the token is.
    """
    try:
        settings = TypeAdapter(ClusterSettings).validate_python(dict(args))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"args of the application: {where + ': ' if where else ''}{first['msg']}.") from error
    settings.server(settings.ports[0])  # complains of the other values here, not in every replica
    return settings


def __getattr__(name: str) -> type:
    """``MostPlaces``: class of the front's choice, which Ray Serve imports by its name; here, where there is Ray."""
    if name != "MostPlaces":
        raise AttributeError(name)
    base: Any = import_module("ray.serve.request_router").RequestRouter

    class MostPlaces(base):
        async def choose_replicas(self, candidate_replicas: list[Any], pending_request: Any = None) -> list[list[Any]]:
            return by_free_places(candidate_replicas)

    return MostPlaces


def by_free_places(replicas: list[Any]) -> list[list[Any]]:
    """Replicas in the order in which they are asked, by their last reports.

    Two at random of those with a free place, the better one first: reports are a second old, and the single best
    replica would get all clients of that second.
    """
    free = {id(one): one.routing_stats.get("free", 1) for one in replicas}
    able = [one for one in replicas if free[id(one)] > 0]
    chosen = sorted(sample(able, min(2, len(able))), key=lambda one: -free[id(one)])
    others = sorted((one for one in replicas if one not in chosen), key=lambda one: -free[id(one)])
    return [[one] for one in chosen + others]
