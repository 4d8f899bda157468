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

import numpy as np
from jaxtyping import UInt8

from emotalking.audio.vad_stream import know_gates
from emotalking.cores import allowed_cores
from emotalking.errors import InputError
from emotalking.player.protocols import PlayableAvatar
from emotalking.player.streaming import FrameConditions, StreamingPlayer, render_batch
from emotalking.serve.metrics import Metrics
from emotalking.serve.session import Session
from emotalking.serve.settings import ServeSettings, is_loopback

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
        self._fps = float(fps)
        self._origin = time.monotonic()
        self._count = 0

    def due(self, now: float) -> int:
        """Frames that are due since the last call."""
        number = int((now - self._origin) * self._fps) - self._count
        if number > _LONGEST_CATCH_UP_S * self._fps:
            self._origin += (number - 1) / self._fps
            number = 1
        self._count += max(number, 0)
        return max(number, 0)

    @property
    def last(self) -> float:
        """Deadline of the newest frame."""
        return self._origin + self._count / self._fps

    @property
    def next(self) -> float:
        """Deadline of the frame after it."""
        return self._origin + (self._count + 1) / self._fps


class Scheduler:
    """Sessions of several avatars and the thread that renders for them.

    Frames that are late are dropped and not queued: every due frame's sound is sent, and the newest one's image.

    Args:
        avatars: by the name that clients use.
        settings: limits and look-ahead.

    Raises:
        InputError: no avatar.

    Example:
        >>> with Scheduler({"someone": Avatar.load("someone.safetensors")}, ServeSettings()) as scheduler:
        ...     session = scheduler.open("someone")
        ...     session.attach(sink)
        ...     session.push(samples, 16000)
    """

    def __init__(self, avatars: Mapping[str, PlayableAvatar], settings: ServeSettings) -> None:
        if not avatars:
            raise InputError("there is no avatar to serve: give at least one.")
        self.avatars, self.settings = dict(avatars), settings
        self.images: dict[str, UInt8[np.ndarray, "H W channels"]] = {}
        """A frame of each avatar, from `start` on."""
        self.workers = ThreadPoolExecutor(_WORKERS, "serve-worker")
        """Threads for short tasks."""
        self.encoders = ThreadPoolExecutor(max(2, allowed_cores()), "serve-encode")
        """Threads that encode images."""
        self.speakers = ThreadPoolExecutor(settings.max_sessions, "serve-speech")
        """Threads that make speech from text, one for each session."""
        self.metrics = Metrics(lambda: len(self.sessions), lambda: sum(session.attached for session in self.sessions))
        self.stopping = False
        self.draining = False
        """True: no session is opened any more; those that are open go on."""
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._render_ms: deque[float] = deque(maxlen=_TICKS)
        self._thread = threading.Thread(target=self._run, name="serve-render", daemon=True)

    def __enter__(self) -> "Scheduler":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Render a frame of every avatar, so that the first of a session comes soon, and start the thread.

        Raises:
            InputError: an avatar whose audio features cannot be computed from a live stream.
        """
        for name, avatar in self.avatars.items():
            self.add(name, avatar)
        self._thread.start()

    def add(self, name: str, avatar: PlayableAvatar) -> None:
        """Serve another avatar from now on, or this one in place of the one with its name; open sessions keep theirs.

        Raises:
            InputError: its audio features cannot be computed from a live stream.
        """
        player = StreamingPlayer(avatar, look_ahead_ms=self.settings.look_ahead_ms)
        self.images[name] = np.asarray(next(player).image)
        self.avatars = {**self.avatars, name: avatar}  # others may be reading it

    def stop(self) -> None:
        """End all sessions and the threads."""
        self.end_all("the server stops")
        if self._thread.is_alive():
            self._thread.join()
        for pool in (self.workers, self.encoders, self.speakers):
            pool.shutdown(wait=True, cancel_futures=True)

    def end_all(self, reason: str) -> None:
        """End all sessions; none can be opened from now on."""
        self.stopping = True
        self._wake.set()
        for session in self.sessions:
            self.close(session, reason)

    def player(self, name: str) -> StreamingPlayer:
        """Make a player of an avatar.

        Raises:
            InputError: there is no such avatar.
        """
        if name not in self.avatars:
            raise InputError("there is no avatar of this name.")
        return StreamingPlayer(self.avatars[name], look_ahead_ms=self.settings.look_ahead_ms)

    @property
    def alive(self) -> bool:
        """True while frames are rendered."""
        return self._thread.is_alive() and not self.stopping

    @property
    def sessions(self) -> list[Session]:
        """Sessions that have not ended."""
        with self._lock:
            return list(self._sessions.values())

    @property
    def render_ms(self) -> float:
        """Median time of the last renderings, all due frames of an avatar together, in milliseconds."""
        times = list(self._render_ms)
        return median(times) if times else 0.0

    def open(self, avatar: str, address: str = "") -> Session:
        """Open a session; where there are too many, one that waits for its client ends.

        Raises:
            LimitError: there are too many, in all or of this address.
            InputError: there is no such avatar.
        """
        settings = self.settings
        session = Session(avatar, self.player, address=address, max_queued_s=settings.max_queued_s)
        most = settings.sessions_per_address or max(1, settings.max_sessions // 2)
        with self._lock:
            if self.stopping or self.draining:
                raise LimitError("the server stops.")
            remote = bool(address) and not is_loopback(address)
            self._make_room([one for one in self._sessions.values() if one.address == address and remote], most)
            self._make_room(list(self._sessions.values()), settings.max_sessions)
            self._sessions[session.id] = session
        self.metrics.opened.inc()
        return session

    def _make_room(self, sessions: Sequence[Session], most: int) -> None:
        """End the session that is without its client for longest, if there are ``most``."""
        if len(sessions) < most:
            return
        waiting = sorted((one for one in sessions if not one.attached), key=lambda one: one.detached_at)
        if not waiting:
            raise LimitError(f"all {most} sessions that there may be are in use: try again later.")
        waiting[0].end("another client needed its place")
        self._sessions.pop(waiting[0].id)

    def find(self, identity: str, secret: str) -> Session | None:
        """The session of a client that comes back; None: it has ended, or the secret is another."""
        with self._lock:
            session = self._sessions.get(identity)
        if session is None or not hmac.compare_digest(session.secret.encode(), secret.encode("utf-8", "replace")):
            return None
        return session

    def leave(self, session: Session, reason: str) -> None:
        """End a session whose client has gone for good, unless it is kept."""
        if not session.kept:
            self.close(session, reason)

    def close(self, session: Session, reason: str) -> None:
        """End a session."""
        session.end(reason)
        with self._lock:
            self._sessions.pop(session.id, None)

    def wake(self) -> None:
        """Have the thread look at the sessions now: one has got its first sink."""
        self._wake.set()

    def _run(self) -> None:
        clocks: dict[str, _Clock] = {}
        looked_at = time.monotonic()
        watched: dict[str, list[Session]] = {}
        while not self.stopping:
            now = time.monotonic()
            if now >= looked_at + 1.0:
                self._look_after(now, now - looked_at)
                looked_at = now
            before, watched = watched, {}
            for session in self.sessions:
                if session.attached:
                    watched.setdefault(session.avatar, []).append(session)
            for name, sessions in watched.items():
                if name not in clocks:
                    clocks[name] = _Clock(self.avatars[name].fps)
                due = clocks[name].due(time.monotonic())
                if due:  # a clock that nobody watched has not counted meanwhile
                    self._tick(sessions, due if name in before else 1, clocks[name].last)
            until = min((clocks[name].next for name in watched), default=now + 1.0)
            if self._wake.wait(max(0.0, until - time.monotonic())):
                self._wake.clear()

    def _tick(self, sessions: Sequence[Session], due: int, deadline: float) -> None:
        """Advance the sessions of an avatar by ``due`` frames and render the last of them."""
        self._hear(sessions)
        waiting: list[tuple[Session, FrameConditions]] = []
        for session in sessions:
            dropped = session.dropped
            try:
                if (step := session.advance(due)) is None:
                    continue
                self.metrics.dropped.labels("render").inc(session.dropped - dropped)
                conditions, wanted = step
                if wanted:
                    waiting.append((session, conditions))
                else:
                    session.show(conditions, None)
            except Exception as error:
                self._fail(session, error)
        if waiting:
            self._render(waiting)
            self.metrics.late.observe(time.monotonic() - deadline)

    def _hear(self, sessions: Sequence[Session]) -> None:
        """Compute together what the sessions' next frames hear; what fails here fails in the frame of its session."""
        try:
            know_gates([asked for session in sessions if (asked := session.hear()) is not None])
        except Exception:
            _logger.debug("gates could not be computed together", exc_info=True)

    def _render(self, waiting: Sequence[tuple[Session, FrameConditions]]) -> None:
        started = time.perf_counter()
        try:
            images = render_batch([conditions for _, conditions in waiting])
        except Exception as error:
            if len(waiting) == 1:
                self._fail(waiting[0][0], error)
            else:  # find the session whose conditions cannot be rendered
                for one in waiting:
                    self._render([one])
            return
        seconds = time.perf_counter() - started
        self._render_ms.append(seconds * 1e3)
        self.metrics.render.observe(seconds)
        self.metrics.batch.observe(len(waiting))
        self.metrics.frames.inc(len(waiting))
        for (session, conditions), image in zip(waiting, images, strict=True):
            try:
                session.show(conditions, np.asarray(image))
            except Exception as error:
                self._fail(session, error)

    def _fail(self, session: Session, error: Exception) -> None:
        """End one session because of an error of its own."""
        _logger.error("a session of the avatar %s failed", session.avatar, exc_info=error)
        self.metrics.failed.inc()
        self.close(session, str(error) if isinstance(error, InputError) else "an internal error of the server")

    def _look_after(self, now: float, seconds: float) -> None:
        """Tell every session its figures; end those that nobody uses, or that have lasted as long as one may."""
        settings = self.settings
        for session in self.sessions:
            try:
                session.send({**session.stats(seconds), "render_ms": round(self.render_ms, 2)})
            except Exception as error:
                self._fail(session, error)
            if session.kept:
                continue
            if session.attached and not session.busy and now - session.last_used > 60 * settings.idle_minutes:
                self.close(session, f"nothing was sent for {settings.idle_minutes:g} minutes")
            elif not session.attached and now - session.detached_at > settings.reconnect_s:
                self.close(session, "the client did not come back")
            elif settings.max_minutes is not None and now - session.created > 60 * settings.max_minutes:
                self.close(session, f"a session lasts {settings.max_minutes:g} minutes at most")
