"""Avatars live, for browsers and programs."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from emotalking.api.rendering import load_avatar
from emotalking.errors import InputError, MissingPackageError
from emotalking.io.outputs import checked
from emotalking.options import Doc, PathLike, Reads

if TYPE_CHECKING:
    from emotalking.models.avatar import Avatar
    from emotalking.serve.ice import IceServer
    from emotalking.serve.server import LiveServer
    from emotalking.serve.settings import ServeSettings

_NEEDED = ("fastapi", "uvicorn", "websockets", "prometheus_client", "aiortc")

ServeDevices = Annotated[
    str,
    Doc("devices, each with a share of the sessions: auto (every GPU, or the CPU), cpu, cuda:1, cuda:0,cuda:1, ..."),
]


@checked
def serve(
    avatars: Annotated[Sequence[PathLike], Reads()] = (),
    *,
    host: str = "127.0.0.1",
    port: int = 8010,
    token: str | None = None,
    allowed_hosts: tuple[str, ...] = (),
    max_sessions: int = 8,
    max_minutes: float | int | None = None,
    idle_minutes: float | int = 10,
    look_ahead_ms: int = 120,
    stream: str | None = None,
    camera: bool = False,
    ice_servers: Annotated[PathLike | None, Reads()] = None,
    uploads: Annotated[PathLike | None, Reads()] = None,
    device: ServeDevices = "auto",
) -> "LiveServer":
    """Serve avatars live: a page to talk with them, and WebSockets for programs.

    Args:
        avatars: avatar files; clients know each by its file's name without the ending. None are needed where clients
            may upload clips.
        host: address to listen on; 0.0.0.0: the whole network, for which a token is needed.
        port: TCP port; 0: a free one.
        token: secret of at least 8 characters that clients must know; None: where others than this machine reach the
            server a new one is made.
        allowed_hosts: further names under which the server is reached, such as that of a proxy.
        max_sessions: sessions at a time.
        max_minutes: longest time of a session; None: no limit.
        idle_minutes: a session to which nothing was sent for so long ends.
        look_ahead_ms: sound after a frame that its lips depend on, 80 to 1000: speech begins so much later.
        stream: address (rtmp://host/application/key, also rtmps, srt, udp, tcp, rtsp) or file (.flv, .ts, .mkv, .mp4)
            to which a head of the first avatar is sent all the time; the printed address leads to its page.
        camera: show that head on a virtual camera.
        ice_servers: for WebRTC clients outside the local network: address of a STUN server (stun:host:port), or JSON
            file with STUN and TURN servers; None: those of EMOTALKING_ICE_SERVERS, else nobody is asked.
        uploads: folder in which clients may store clips and make avatars of them; None: they may not.

    Returns:
        A server, to be used as a context manager; ``serve_forever`` runs it.

    Raises:
        InputError: an avatar, the address or a setting cannot be used.
    """
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise MissingPackageError(
            f"serving needs {', '.join(missing)}, which is not installed: pip install 'emotalking[serve]'."
        )
    if not avatars and (uploads is None or stream is not None or camera):
        raise InputError(
            "there is no avatar to serve: give at least one, or a folder for uploads, to make one on the page."
        )
    from emotalking.ops.devices import parse_devices
    from emotalking.serve.ice import ice_servers as read_ice_servers
    from emotalking.serve.settings import ServeSettings, is_local, new_token

    if token is None and not is_local(host, allowed_hosts):
        token = new_token()
    settings = ServeSettings(
        host=host,
        port=port,
        token=token,
        allowed_hosts=allowed_hosts,
        max_sessions=max_sessions,
        max_minutes=max_minutes,
        idle_minutes=idle_minutes,
        look_ahead_ms=look_ahead_ms,
        uploads=None if uploads is None else Path(uploads),
    )
    server = _make_server(_named(avatars), settings, parse_devices(device), read_ice_servers(ice_servers))
    try:
        if stream is not None or camera:
            _add_outputs(server, stream, camera)
    except BaseException:
        server.stop()
        raise
    return server


def _make_server(
    named: dict[str, PathLike], settings: "ServeSettings", devices: list[str], ice: "list[IceServer]"
) -> "LiveServer":
    """A server of the avatars, each on every device; those that uploads make are added."""
    from emotalking.serve.job_routes import job_router
    from emotalking.serve.jobs import Jobs
    from emotalking.serve.server import LiveServer
    from emotalking.serve.studio import page_router
    from emotalking.serve.webrtc import webrtc_router

    def on_all(path: PathLike) -> "list[Avatar]":
        return [load_avatar(path, each) for each in devices]

    copies = {name: on_all(path) for name, path in named.items()}
    first, *more = ({name: there[number] for name, there in copies.items()} for number in range(len(devices)))

    def trained(name: str, path: Path) -> None:
        server.scheduler.add(name, *on_all(path))

    jobs = None if settings.uploads is None else Jobs(settings.uploads, device=devices[-1], trained=trained)
    closing = [] if jobs is None else [jobs.close]
    server = LiveServer(first, settings, [page_router(), job_router(jobs), webrtc_router(ice)], closing, more)
    return server


def _add_outputs(server: "LiveServer", stream: str | None, camera: bool) -> None:
    """Let one session of the first avatar have outputs of its own."""
    from emotalking.provenance.manifest import Origin
    from emotalking.provenance.signing import finisher
    from emotalking.serve.outputs import MediaOutput, VirtualCamera

    avatar = next(iter(server.scheduler.avatars.values()))
    shape = avatar.width, avatar.height, avatar.fps
    if stream is not None:  # of a live address, which is never finished, there is nothing to sign
        server.keep(MediaOutput(stream, *shape, finish=finisher(stream, Origin.of_avatar(avatar))))
    if camera:
        server.keep(VirtualCamera(*shape))


def _named(paths: Sequence[PathLike]) -> dict[str, PathLike]:
    """Files by their names without the ending.

    Raises:
        InputError: two have the same.
    """
    named: dict[str, PathLike] = {}
    for path in paths:
        name = Path(path).stem
        if name in named:
            raise InputError(f"{named[name]} and {path} would both be served as '{name}': rename one of them.")
        named[name] = path
    return named
