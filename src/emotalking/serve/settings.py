"""Settings of the live server, checked once."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from emotalking.errors import InputError
from emotalking.player.streaming import LOOK_AHEAD_MS


@dataclass(frozen=True)
class ServeSettings:
    """Where the server listens, who may use it, and how much of it.

    Raises:
        InputError: a value is out of range.
    """

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 8010
    """TCP port; 0 takes a free one."""
    token: str | None = None
    """Secret that clients must know; None: none is needed, which only a loopback address allows."""
    allowed_hosts: tuple[str, ...] = ()
    """Further names under which the server is reached, such as that of a proxy, and whose pages may use it."""
    max_sessions: int = 8
    sessions_per_address: int | None = None
    """Sessions of one client's address at a time; None: half of ``max_sessions``. Loopback is not limited."""
    idle_minutes: float = 10.0
    """A session to which nothing was sent for so long ends."""
    max_minutes: float | None = None
    """Longest time of a session; None: no limit."""
    reconnect_s: float = 30.0
    """How long a session without a connection waits for its client."""
    look_ahead_ms: int = 120
    """Sound after a frame that its features see."""
    uploads: Path | None = None
    """Folder for uploaded clips and their jobs; None: nothing can be uploaded."""
    max_message_bytes: int = 1 << 20
    """Largest message of a client: 10 s of 48 kHz 16-bit sound."""
    messages_per_s: float = 250.0
    """Messages of a client per second, over a few seconds."""
    max_queued_s: float = 120.0
    """Sound that waits to be spoken in a session, in seconds."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise InputError(f"the port is {self.port}: give 1 to 65535, or 0 for a free one.")
        if self.max_sessions < 1:
            raise InputError(f"sessions at a time: {self.max_sessions}; give 1 or more.")
        if not self.idle_minutes > 0 or (self.max_minutes is not None and not self.max_minutes > 0):
            raise InputError("idle and longest time of a session: give a positive number of minutes.")
        least, most = LOOK_AHEAD_MS
        if not least <= self.look_ahead_ms <= most:
            raise InputError(f"the look-ahead is {self.look_ahead_ms} ms: give {least} to {most}.")
        if self.token is not None and (len(self.token) < 8 or not set(self.token) <= TOKEN_LETTERS):
            raise InputError("the token: give at least 8 letters, digits, '-', '_', '.' or '~'.")
        if self.token is None and not self.local:
            raise InputError(f"a token is needed to serve on {self.host}: everybody in the network can reach it.")

    @property
    def local(self) -> bool:
        """True if only this machine reaches the server."""
        return is_local(self.host, self.allowed_hosts)


TOKEN_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~")
"""Characters that HTTP allows in a subprotocol's name, and an address unescaped."""


def new_token() -> str:
    """A token that cannot be guessed."""
    return secrets.token_urlsafe(24)


def is_local(host: str, allowed_hosts: Sequence[str]) -> bool:
    """True if only this machine reaches a server: on a loopback address, without another name."""
    return is_loopback(host) and all(is_loopback(name) for name in allowed_hosts)


def is_loopback(host: str) -> bool:
    """True for a name or an address of this machine alone."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
