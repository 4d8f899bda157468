"""Sessions, their limits, and on which device each is rendered."""

import hmac
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
from jaxtyping import UInt8

from emotalking.cores import allowed_cores
from emotalking.errors import InputError
from emotalking.player.protocols import PlayableAvatar
from emotalking.serve.metrics import Metrics
from emotalking.serve.rendering import Renderer
from emotalking.serve.session import Session
from emotalking.serve.settings import ServeSettings, is_loopback

_WORKERS = 8


class LimitError(InputError):
    """There are as many sessions as there may be."""


class Scheduler:
    """Sessions of several avatars, and a thread for each device that renders for them.

    A session is placed on the device that has the fewest, and stays there.

    Args:
        avatars: by the name that clients use.
        settings: limits and look-ahead.
        more: the same avatars on further devices, one mapping each.

    Raises:
        InputError: no avatar, or not the same ones on each device.

    Example:
        >>> with Scheduler({"someone": Avatar.load("someone.safetensors")}, ServeSettings()) as scheduler:
        ...     session = scheduler.open("someone")
        ...     session.attach(sink)
        ...     session.push(samples, 16000)
    """

    def __init__(
        self,
        avatars: Mapping[str, PlayableAvatar],
        settings: ServeSettings,
        more: Sequence[Mapping[str, PlayableAvatar]] = (),
    ) -> None:
        if any(there.keys() != avatars.keys() for there in more):
            raise InputError("the avatars of all devices must be the same.")
        self.settings = settings
        self.images: dict[str, UInt8[np.ndarray, "H W channels"]] = {}
        """A frame of each avatar, from `start` on."""
        self.workers = ThreadPoolExecutor(_WORKERS, "serve-worker")
        """Threads for short tasks."""
        self.encoders = ThreadPoolExecutor(max(2, allowed_cores()), "serve-encode")
        """Threads that encode images."""
        self.speakers = ThreadPoolExecutor(settings.max_sessions, "serve-speech")
        """Threads that make speech from text, one for each session."""
        self.metrics = Metrics(lambda: len(self.sessions), lambda: sum(session.attached for session in self.sessions))
        self.renderers = [
            Renderer(there, settings, self.metrics, self.close, label)
            for there, label in zip((avatars, *more), _labels((avatars, *more)), strict=True)
        ]
        """One for each device."""
        self.stopping = False
        self.draining = False
        """True: no session is opened any more; those that are open go on."""
        self._sessions: dict[str, tuple[Session, Renderer]] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> "Scheduler":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def avatars(self) -> Mapping[str, PlayableAvatar]:
        """By name, as they are on the first device."""
        return self.renderers[0].avatars

    def start(self) -> None:
        """Render a frame of every avatar, so that the first of a session comes soon, and start the threads.

        Raises:
            InputError: an avatar whose audio features cannot be computed from a live stream.
        """
        for name in list(self.avatars):
            self.add(name, *(renderer.avatars[name] for renderer in self.renderers))
        for renderer in self.renderers:
            renderer.start()

    def add(self, name: str, *avatars: PlayableAvatar) -> None:
        """Serve another avatar from now on, or this one in place of the one with its name; open sessions keep theirs.

        Args:
            avatars: the avatar on each device, in the order of :attr:`renderers`.

        Raises:
            InputError: its audio features cannot be computed from a live stream.
        """
        for renderer, avatar in zip(self.renderers, avatars, strict=True):
            self.images[name] = renderer.add(name, avatar)

    def stop(self) -> None:
        """End all sessions and the threads."""
        self.end_all("the server stops")
        for renderer in self.renderers:
            renderer.stop()
        for pool in (self.workers, self.encoders, self.speakers):
            pool.shutdown(wait=True, cancel_futures=True)

    def end_all(self, reason: str) -> None:
        """End all sessions; none can be opened from now on."""
        self.stopping = True
        for renderer in self.renderers:
            renderer.stopping = True
            renderer.wake()
        for session in self.sessions:
            self.close(session, reason)

    @property
    def alive(self) -> bool:
        """True while frames are rendered, on every device."""
        return not self.stopping and all(renderer.alive for renderer in self.renderers)

    @property
    def sessions(self) -> list[Session]:
        """Sessions that have not ended."""
        with self._lock:
            return [session for session, _ in self._sessions.values()]

    def open(self, avatar: str | None = None, address: str = "") -> Session:
        """Open a session; where there are too many, one that waits for its client ends.

        Args:
            avatar: its name; None: the first.

        Raises:
            LimitError: there are too many, in all or of this address.
            InputError: there is no such avatar.
        """
        settings = self.settings
        most = settings.sessions_per_address or max(1, settings.max_sessions // 2)
        name = avatar or next(iter(self.avatars), None)
        if name is None:
            raise InputError("this server has no avatar yet: make one of a clip on its page.")
        with self._place() as renderer:
            session = Session(name, renderer.player, address=address, max_queued_s=settings.max_queued_s)
        with self._lock:
            if self.stopping or self.draining:
                raise LimitError("the server stops.")
            remote = bool(address) and not is_loopback(address)
            there = [session for session, _ in self._sessions.values()]
            self._make_room([one for one in there if one.address == address and remote], most)
            there = [session for session, _ in self._sessions.values()]
            self._make_room(there, settings.max_sessions)
            self._sessions[session.id] = session, renderer
            renderer.take(session)
        self.metrics.opened.inc()
        return session

    @contextmanager
    def _place(self) -> Iterator[Renderer]:
        """The device with the fewest sessions, those counted that others are making meanwhile."""
        with self._lock:
            renderer = min(self.renderers, key=lambda one: len(one.sessions) + one.coming)
            renderer.coming += 1
        try:
            yield renderer
        finally:
            with self._lock:
                renderer.coming -= 1

    def _make_room(self, sessions: Sequence[Session], most: int) -> None:
        """End the session that is without its client for longest, if there are ``most``."""
        if len(sessions) < most:
            return
        waiting = sorted((one for one in sessions if not one.attached), key=lambda one: one.detached_at)
        if not waiting:
            raise LimitError(f"all {most} sessions that there may be are in use: try again later.")
        waiting[0].end("another client needed its place")
        self._forget(waiting[0])

    def _forget(self, session: Session) -> None:
        """Drop a session that has ended; the lock is held."""
        _, renderer = self._sessions.pop(session.id, (session, None))
        if renderer is not None:
            renderer.leave(session)

    def find(self, identity: str, secret: str) -> Session | None:
        """The session of a client that comes back; None: it has ended, or the secret is another."""
        with self._lock:
            session, _ = self._sessions.get(identity, (None, None))
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
            self._forget(session)

    def wake(self) -> None:
        """Have the threads look at the sessions now: one has got its first sink."""
        for renderer in self.renderers:
            renderer.wake()


def _labels(devices: Sequence[Mapping[str, PlayableAvatar]]) -> list[str]:
    """Names of devices for the metrics; with a number where several are the same."""
    names = [str(next((avatar.device for avatar in avatars.values()), "device")) for avatars in devices]
    return [name if names.count(name) == 1 else f"{name}/{number}" for number, name in enumerate(names)]
