"""The live server: socket, uvicorn, and an end in order."""

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from urllib.parse import urlencode

import uvicorn
from fastapi import APIRouter

from emotalking.errors import InputError
from emotalking.io.reading import reason
from emotalking.player.protocols import PlayableAvatar
from emotalking.serve.app import make_app
from emotalking.serve.connections import SEND_BUFFER, Connection, Socket
from emotalking.serve.outputs import Output
from emotalking.serve.scheduler import Scheduler
from emotalking.serve.session import Session
from emotalking.serve.settings import ServeSettings, is_loopback

_GOODBYE_S = 1.0
"""Time for the sessions' last messages."""
_END_S = 10
"""Time for requests that are under way; then they are cancelled."""


class LiveServer:
    """Serves avatars until it is interrupted; also in a thread of its own.

    Args:
        avatars: by the name that clients use.
        settings: where and for whom.
        routers: further parts (:func:`~emotalking.serve.app.make_app`).
        closing: called when the server stops, before the last connections are closed.
        more: the same avatars on further devices (:class:`~emotalking.serve.scheduler.Scheduler`).

    Raises:
        InputError: the address or the port cannot be used.

    Example:
        >>> with LiveServer({"someone": Avatar.load("someone.safetensors")}, ServeSettings()) as server:
        ...     print(server.link)
        ...     server.serve_forever()
    """

    def __init__(
        self,
        avatars: Mapping[str, PlayableAvatar],
        settings: ServeSettings,
        routers: Sequence[APIRouter] = (),
        closing: Sequence[Callable[[], object]] = (),
        more: Sequence[Mapping[str, PlayableAvatar]] = (),
    ) -> None:
        self.settings = settings
        self.scheduler = Scheduler(avatars, settings, more)
        self._routers, self._closing = routers, closing
        self._socket = _listening(settings.host, settings.port)
        self._uvicorn: _Uvicorn | None = None
        self._thread: threading.Thread | None = None
        self.session: Session | None = None
        """That of :meth:`own_session`."""
        self._outputs: list[Output] = []

    @property
    def port(self) -> int:
        """TCP port."""
        return self._socket.getsockname()[1]

    @property
    def address(self) -> str:
        """Address of the page, for this machine."""
        host = self.settings.host
        host = "127.0.0.1" if host in ("0.0.0.0", "::", "localhost") else host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"

    @property
    def link(self) -> str:
        """Address of the page, with the token and the server's own session, which browsers do not send to servers."""
        secrets = {} if self.settings.token is None else {"token": self.settings.token}
        if self.session is not None:
            secrets |= {"session": self.session.id, "secret": self.session.secret}
        return self.address + (f"#{urlencode(secrets)}" if secrets else "")

    def keep(self, output: Output) -> Session:
        """Send the head of :meth:`own_session` to ``output`` all the time; gives the session."""
        session = self.own_session()
        session.keep(output)
        self._outputs.append(output)
        return session

    def own_session(self) -> Session:
        """A session of the first avatar for the program that runs the server; `link` leads to it."""
        if self.session is None:
            self.session = self.scheduler.open()
            self.session.kept = True
        return self.session

    def serve_forever(self) -> None:
        """Serve until SIGINT or SIGTERM comes, or `stop` is called; then end sessions and requests in order."""
        self._prepare()
        self._run()

    def start(self) -> None:
        """Serve in a thread; returns when connections are answered."""
        self._prepare()
        self._thread = threading.Thread(target=self._run, name="serve-http", daemon=True)
        self._thread.start()
        assert self._uvicorn is not None
        self._uvicorn.ready.wait()

    def stop(self) -> None:
        """End sessions and requests in order, and wait for that."""
        if self._uvicorn is not None:
            self._uvicorn.should_exit = True
        if self._thread is not None:
            self._thread.join()
        self.scheduler.stop()
        for output in self._outputs:
            output.close()
        self._socket.close()

    def __enter__(self) -> "LiveServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _prepare(self) -> None:
        """Warm the avatars up and make the application."""
        self.scheduler.start()
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # it warns of every malformed request
        config = uvicorn.Config(
            make_app(self.scheduler, self.settings, self._routers),
            loop="asyncio",  # also where uvloop is installed, as by Ray Serve: one loop is tested
            http=Connection,
            ws=Socket,
            ws_max_size=self.settings.max_message_bytes,
            ws_per_message_deflate=False,  # images do not get smaller
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=is_loopback(self.settings.host),  # of a proxy on this machine alone
            timeout_graceful_shutdown=_END_S,
            lifespan="on",
        )
        self._uvicorn = _Uvicorn(config, self._take_leave)

    def _take_leave(self) -> None:
        """Say bye to all sessions, and end what else was begun."""
        self.scheduler.end_all("the server stops")
        for close in self._closing:
            close()

    def _run(self) -> None:
        assert self._uvicorn is not None
        try:
            self._uvicorn.run(sockets=[self._socket])
        finally:
            self._uvicorn.ready.set()
            self.scheduler.stop()


class _Uvicorn(uvicorn.Server):
    """uvicorn that takes leave of the sessions, and does not raise the signals that ended it again."""

    def __init__(self, config: uvicorn.Config, take_leave: Callable[[], None]) -> None:
        super().__init__(config)
        self.ready = threading.Event()
        self._take_leave = take_leave

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Say bye to all sessions and give their messages time, then close the connections."""
        await asyncio.get_running_loop().run_in_executor(None, self._take_leave)
        for _ in range(int(_GOODBYE_S / 0.05)):
            if not any(isinstance(one, Socket) for one in self.server_state.connections):
                break
            await asyncio.sleep(0.05)
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take SIGINT and SIGTERM as the wish to end in order."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._end) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self, number: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit  # the second time: at once
        self.should_exit = True


def _listening(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        InputError: the address is none of this machine, or the port is in use or not for everyone.
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InputError(f"the address {host} cannot be used ({reason(error)}): give one of this machine.") from error
    try:
        if hasattr(socket, "SO_REUSEADDR") and not hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)  # that of its connections
        found.bind(place)
        found.listen(256)
    except OSError as error:
        found.close()
        raise InputError(f"port {port} of {host} cannot be used ({reason(error)}): give another.") from error
    return found
