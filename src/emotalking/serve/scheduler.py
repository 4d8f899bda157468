"""One thread that renders the due frames of all sessions, those of an avatar in one call."""

import hmac
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from emotalking.errors import InputError
from emotalking.models.avatar import Avatar
from emotalking.serve.session import Session
from emotalking.serve.settings import ServeSettings, is_loopback

if TYPE_CHECKING:
    from emotalking.player.streaming import FrameConditions, StreamingPlayer

_logger = logging.getLogger(__name__)
_WORKERS = 8
_LONGEST_CATCH_UP_S = 2.0
"""A clock that is later than this (a machine that slept) goes on from now."""
_TICKS = 50
"""Render times that `Scheduler.render_ms` is the median of."""


class LimitError(InputError):
    """There are as many sessions as there may be."""


class _Clock:
    """Absolute deadlines of an avatar's frames."""

    def __init__(self, fps: Fraction) -> None:
        self.fps = float(fps)
        self._origin = time.monotonic()
        self._count = 0

    def due(self, now: float) -> int:
        """Frames that are due since the last call."""
        number = int((now - self._origin) * self.fps) - self._count
        if number > _LONGEST_CATCH_UP_S * self.fps:
            self._origin += (number - 1) / self.fps
            number = 1
        self._count += max(number, 0)
        return max(number, 0)

    @property
    def next(self) -> float:
        """Time of the next frame."""
        return self._origin + (self._count + 1) / self.fps


class Scheduler:
    """Sessions of several avatars and the thread that renders for them.

    Frames that are late are dropped and not queued: every due frame's sound is sent, and the newest one's image.

    Args:
        avatars: by the name that clients use.
        settings: limits and look-ahead.

    Example:
        >>> with Scheduler({"someone": Avatar.load("someone.safetensors")}, ServeSettings()) as scheduler:
        ...     session = scheduler.open("someone")
        ...     session.attach(sink)
        ...     session.push(samples, 16000)
    """

    def __init__(self, avatars: Mapping[str, Avatar], settings: ServeSettings) -> None:
        if not avatars:
            raise InputError("there is no avatar to serve: give at least one.")
        self.avatars, self.settings = dict(avatars), settings
        self.workers = ThreadPoolExecutor(_WORKERS, "serve-worker")
        self.speakers = ThreadPoolExecutor(2, "serve-speech")
        """Threads that make speech from text."""
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._render_ms: deque[float] = deque(maxlen=_TICKS)
        self._thread = threading.Thread(target=self._run, name="serve-render", daemon=True)

    def __enter__(self) -> "Scheduler":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop("the server stops")

    def start(self) -> None:
        """Render a frame of every avatar, so that the first of a session comes soon, and start the thread."""
        for name in self.avatars:
            next(self.player(name))
        self._thread.start()

    def stop(self, reason: str) -> None:
        """End all sessions and the threads."""
        self._stopping = True
        self._wake.set()
        for session in self.sessions:
            session.end(reason)
        if self._thread.is_alive():
            self._thread.join()
        for pool in (self.workers, self.speakers):
            pool.shutdown(wait=True, cancel_futures=True)

    def player(self, name: str) -> "StreamingPlayer":
        """Make a player of an avatar.

        Raises:
            InputError: there is no such avatar.
        """
        from emotalking.player.streaming import StreamingPlayer

        if name not in self.avatars:
            raise InputError("there is no avatar of this name.")
        return StreamingPlayer(self.avatars[name], look_ahead_ms=self.settings.look_ahead_ms)

    @property
    def sessions(self) -> list[Session]:
        """Sessions that have not ended."""
        with self._lock:
            return list(self._sessions.values())

    @property
    def render_ms(self) -> float:
        """Median time of the last renderings, all sessions of an avatar together, in milliseconds."""
        times = list(self._render_ms)
        return median(times) if times else 0.0

    def open(self, avatar: str, address: str = "") -> Session:
        """Open a session.

        Raises:
            LimitError: there are too many, in all or of this address.
            InputError: there is no such avatar.
        """
        settings = self.settings
        session = Session(avatar, self.player, self.workers, address=address, max_queued_s=settings.max_queued_s)
        most = settings.sessions_per_address or max(1, settings.max_sessions // 2)
        with self._lock:
            same = sum(one.address == address for one in self._sessions.values())
            if self._stopping or len(self._sessions) >= settings.max_sessions:
                raise LimitError(f"all {settings.max_sessions} sessions are in use: try again later.")
            if address and not is_loopback(address) and same >= most:
                raise LimitError(f"there are {same} sessions from your address already.")
            self._sessions[session.id] = session
        self._wake.set()
        return session

    def find(self, identity: str, secret: str) -> Session | None:
        """The session of a client that comes back; None: it has ended, or the secret is another."""
        with self._lock:
            session = self._sessions.get(identity)
        if session is None or not hmac.compare_digest(session.secret.encode(), secret.encode()):
            return None
        return session

    def close(self, session: Session, reason: str) -> None:
        """End a session."""
        session.end(reason)
        with self._lock:
            self._sessions.pop(session.id, None)

    def wake(self) -> None:
        """Let the thread look at the sessions again."""
        self._wake.set()

    def _run(self) -> None:
        clocks = {name: _Clock(avatar.fps) for name, avatar in self.avatars.items()}
        overdue = 0.0
        while not self._stopping:
            now = time.monotonic()
            if now >= overdue:
                self._end_overdue(now)
                overdue = now + 1.0
            watched: dict[str, list[Session]] = {}
            for session in self.sessions:
                if session.ended is not None:
                    self.close(session, session.ended)
                elif session.attached:
                    watched.setdefault(session.avatar, []).append(session)
            for name, sessions in watched.items():
                if due := clocks[name].due(time.monotonic()):
                    self._tick(sessions, due)
            until = min((clocks[name].next for name in watched), default=now + 0.2)
            if self._wake.wait(max(0.0, until - time.monotonic())):
                self._wake.clear()

    def _tick(self, sessions: Sequence[Session], due: int) -> None:
        """Advance the sessions of an avatar by ``due`` frames and render the last of them."""
        waiting: list[tuple[Session, FrameConditions]] = []
        for session in sessions:
            try:
                if (step := session.advance(due)) is None:
                    continue
                conditions, wanted = step
                if wanted:
                    waiting.append((session, conditions))
                else:
                    session.show(conditions, None)
            except Exception as error:
                self._fail(session, error)
        if waiting:
            self._render(waiting)

    def _render(self, waiting: "Sequence[tuple[Session, FrameConditions]]") -> None:
        from emotalking.player.streaming import render_batch

        started = time.perf_counter()
        images: Sequence[np.ndarray]
        try:
            images = render_batch([conditions for _, conditions in waiting])
        except Exception as error:
            if len(waiting) == 1:
                self._fail(waiting[0][0], error)
            else:  # find the session whose conditions cannot be rendered
                for one in waiting:
                    self._render([one])
            return
        self._render_ms.append((time.perf_counter() - started) * 1e3)
        for (session, conditions), image in zip(waiting, images, strict=True):
            try:
                session.show(conditions, image)
            except Exception as error:
                self._fail(session, error)

    def _fail(self, session: Session, error: Exception) -> None:
        _logger.exception("a session of the avatar %s failed", session.avatar, exc_info=error)
        reason = str(error) if isinstance(error, InputError) else "an internal error of the server"
        self.close(session, reason)

    def _end_overdue(self, now: float) -> None:
        """End sessions that nobody uses, or that have lasted as long as one may."""
        settings = self.settings
        for session in self.sessions:
            if session.attached and not session.busy and now - session.last_used > 60 * settings.idle_minutes:
                self.close(session, f"nothing was sent for {settings.idle_minutes:g} minutes")
            elif not session.attached and now - session.detached_at > settings.reconnect_s:
                self.close(session, "the client did not come back")
            elif settings.max_minutes is not None and now - session.created > 60 * settings.max_minutes:
                self.close(session, f"a session lasts {settings.max_minutes:g} minutes at most")
