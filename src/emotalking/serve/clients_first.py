"""The lock of a session."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

_PATIENCE_S = 0.004
"""Longest time for which a frame waits for clients' messages to be taken."""


class ClientsFirst:
    """A reentrant lock of which clients' calls come first: a late render thread would take it again and again."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._asking: deque[None] = deque()
        """As many as there are threads that wait for the lock on a client's behalf."""

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Hold the lock on a client's behalf."""
        self._asking.append(None)
        self._lock.acquire()
        self._asking.pop()
        try:
            yield
        finally:
            self._lock.release()

    def give_way(self) -> None:
        """Let those go first who wait on a client's behalf."""
        patience = time.monotonic() + _PATIENCE_S
        while self._asking and time.monotonic() < patience:
            time.sleep(0.0002)
