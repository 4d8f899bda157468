"""What the command line prints: nothing in it controls the terminal, and every encoding takes it."""

import errno
import os
import signal
import sys
from contextlib import suppress
from io import TextIOBase
from types import FrameType
from typing import Any

from emotalking.errors import printable
from emotalking.io.reading import reason

_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


class Screen:
    """Standard output for results: control characters in them are escaped."""

    def __init__(self, stream: TextIOBase) -> None:
        self.stream = stream
        """The stream itself, for writers that control the terminal on purpose."""

    def write(self, text: str) -> int:
        """Write escaped text."""
        return self.stream.write(printable(text))

    def flush(self) -> None:
        """Write what is buffered."""
        self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class Terminated(KeyboardInterrupt):
    """The process is to end (SIGTERM, SIGHUP): as an interrupt, so that unfinished files are removed."""


def prepare_streams() -> None:
    """Let standard output and error take every character, whatever the terminal's encoding."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def end_in_order() -> None:
    """Have the signals that end a process raise :class:`Terminated`, where nothing else was chosen for them."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        with suppress(ValueError):  # not in the main thread
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _terminate)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated(128 + number)


def complain(message: str) -> None:
    """One line on standard error, if there is one."""
    with suppress(OSError, ValueError):
        if sys.stderr is not None:
            sys.stderr.write(f"{printable(' '.join(message.split()))}\n")


def system_sentence(error: OSError) -> str:
    """An error of the operating system, of any kind, as a sentence for the user."""
    why = "an error without a reason" if error.filename and not error.strerror else reason(error)
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return f"too many files are open ({why}): close other programs, or raise the limit (ulimit -n)"
    if error.errno == errno.ENOMEM:
        return f"the memory is full ({why}): close other programs"
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes | os.PathLike) else ""
    if error.errno in _WRITING:
        return f"cannot write {name or 'a file, perhaps a temporary one'}: {why}"
    if not name:
        return f"the operating system refuses something: {why}"
    if error.errno in (errno.EACCES, errno.EPERM):
        # The error does not tell what was tried.
        read = os.path.exists(name) and not os.access(name, os.R_OK)
        return f"{name} cannot be {'read' if read else 'used'}: {why}: check its permissions and those of its folder"
    return f"{name} cannot be used: {why}"
