"""One thread a device: it renders the due frames of the sessions there, those of an avatar in one call."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import partial
from statistics import median
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8

from emotalking.audio.vad_stream import know_gates
from emotalking.errors import InputError
from emotalking.player.protocols import PlayableAvatar
from emotalking.player.streaming import FrameConditions, StreamingPlayer, render_batch
from emotalking.serve.metrics import Metrics
from emotalking.serve.session import Session
from emotalking.serve.settings import ServeSettings

Result = TypeVar("Result")

_logger = logging.getLogger(__name__)
_LONGEST_CATCH_UP_S = 2.0
"""A clock that is later than this (a machine that slept) goes on from now."""
_TICKS = 50
"""Render times that `Renderer.render_ms` is the median of."""


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


class Renderer:
    """The avatars on one device, and the thread that renders for the sessions that were placed there.

    Frames that are late are dropped and not queued: every due frame's sound is sent, and the newest one's image.

    Args:
        avatars: by the name that clients use; all on one device.
        settings: limits and look-ahead.
        metrics: of the server.
        close: ends a session and says why.
        label: name of the device in the metrics.
    """

    def __init__(
        self,
        avatars: Mapping[str, PlayableAvatar],
        settings: ServeSettings,
        metrics: Metrics,
        close: Callable[[Session, str], None],
        label: str,
    ) -> None:
        self.avatars, self._settings, self._close = dict(avatars), settings, close
        self._metrics, self._figures = metrics, metrics.of_device(label)
        self.stopping = False
        self.coming = 0
        """Sessions that are being made for it."""
        self._sessions: dict[str, Session] = {}
        self._wake = threading.Event()
        self._render_ms: deque[float] = deque(maxlen=_TICKS)
        self._thread = threading.Thread(target=self._run, name=f"serve-render-{label}", daemon=True)

    @property
    def sessions(self) -> list[Session]:
        """Sessions that were placed here and have not ended."""
        return list(self._sessions.values())

    @property
    def render_ms(self) -> float:
        """Median time of the last renderings, all due frames of an avatar together, in milliseconds."""
        times = list(self._render_ms)
        return median(times) if times else 0.0

    @property
    def alive(self) -> bool:
        """True while the thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and return when it has ended."""
        self.stopping = True
        self.wake()
        if self._thread.is_alive():
            self._thread.join()

    def add(self, name: str, avatar: PlayableAvatar) -> UInt8[np.ndarray, "H W channels"]:
        """Serve another avatar, or this one in place of the one with its name, and return a frame of it.

        Raises:
            InputError: its audio features cannot be computed from a live stream.
        """
        player = StreamingPlayer(avatar, look_ahead_ms=self._settings.look_ahead_ms)
        image = np.asarray(next(player).image)
        self.avatars = {**self.avatars, name: avatar}  # others may be reading it
        return image

    def player(self, name: str) -> StreamingPlayer:
        """Make a player of an avatar.

        Raises:
            InputError: there is no such avatar.
        """
        if name not in self.avatars:
            raise InputError("there is no avatar of this name.")
        return StreamingPlayer(self.avatars[name], look_ahead_ms=self._settings.look_ahead_ms)

    def take(self, session: Session) -> None:
        """Render for a session from now on."""
        self._sessions = {**self._sessions, session.id: session}
        self._figures.sessions.set(len(self._sessions))

    def leave(self, session: Session) -> None:
        """Render for a session no more."""
        self._sessions = {key: one for key, one in self._sessions.items() if one is not session}
        self._figures.sessions.set(len(self._sessions))

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
        for _ in range(due - 1):  # frame by frame: heard together they cost a fraction
            self._hear(sessions)
            for session in sessions:
                if session.ended is not None:
                    continue
                dropped = session.dropped
                self._try(session, session.skip)
                self._metrics.dropped.labels("render").inc(session.dropped - dropped)
        self._hear(sessions)
        waiting: list[tuple[Session, FrameConditions]] = []
        for session in sessions:
            if (step := self._try(session, session.advance)) is None:
                continue
            conditions, wanted = step
            if wanted:
                waiting.append((session, conditions))
            else:
                self._try(session, partial(session.show, conditions, None))
        if waiting:
            self._render(waiting)
            self._figures.late.observe(time.monotonic() - deadline)

    def _try(self, session: Session, step: Callable[[], Result]) -> Result | None:
        """The result of a session's step; None: it failed, and the session with it."""
        try:
            return step()
        except Exception as error:
            self._fail(session, error)
            return None

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
        self._figures.render.observe(seconds)
        self._figures.batch.observe(len(waiting))
        self._figures.frames.inc(len(waiting))
        for (session, conditions), image in zip(waiting, images, strict=True):
            self._try(session, partial(session.show, conditions, np.asarray(image)))

    def _tell(self, session: Session, seconds: float) -> None:
        session.send({**session.stats(seconds), "render_ms": round(self.render_ms, 2)})

    def _fail(self, session: Session, error: Exception) -> None:
        """End one session because of an error of its own."""
        _logger.error("a session of the avatar %s failed", session.avatar, exc_info=error)
        self._metrics.failed.inc()
        self._close(session, str(error) if isinstance(error, InputError) else "an internal error of the server")

    def _look_after(self, now: float, seconds: float) -> None:
        """Tell every session its figures; end those that nobody uses, or that have lasted as long as one may."""
        settings = self._settings
        for session in self.sessions:
            self._try(session, partial(self._tell, session, seconds))
            if session.kept:
                continue
            if session.attached and not session.busy and now - session.last_used > 60 * settings.idle_minutes:
                self._close(session, f"nothing was sent for {settings.idle_minutes:g} minutes")
            elif not session.attached and now - session.detached_at > settings.reconnect_s:
                self._close(session, "the client did not come back")
            elif settings.max_minutes is not None and now - session.created > 60 * settings.max_minutes:
                self._close(session, f"a session lasts {settings.max_minutes:g} minutes at most")
