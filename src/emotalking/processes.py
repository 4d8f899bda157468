"""Processes of this package that end with the one that started them.

Such a process has a pipe from its parent as standard input, and stops as by Ctrl-C when nobody holds the other end any
more: the parent let go, or it is gone, however it went. It belongs to no terminal, so that Ctrl-C reaches the parent
alone, which decides what becomes of the others.
"""

import _thread
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

GRACE = 60.0
"""Seconds that a process has to save what it did after it was stopped."""
_COMPLAINT = "emotalking: error: "


class Child:
    """One such process; what it says is appended to a log.

    Args:
        module: whose ``main(arguments)`` it runs, which returns its exit code.
        device: "cpu", or the GPU that it shall see: there it is "cuda" (:func:`name_inside`), and the only one.
    """

    def __init__(self, module: str, arguments: Sequence[str], device: str, log: Path) -> None:
        self._log = log
        command = [sys.executable, "-m", "emotalking.processes", module, *arguments]
        with log.open("ab") as said:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=subprocess.STDOUT,
                env=_environment(device),
                start_new_session=True,
            )

    def wait(self, seconds: float | int | None = 0) -> int | None:
        """Its exit code; None if it still runs after ``seconds`` (None: wait for its end)."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def let_go(self) -> None:
        """Have it save and end, and do not wait for that."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    def stop(self) -> None:
        """Have it save and end, and wait for that; where it does not end, kill it."""
        self.let_go()
        if self.wait(GRACE) is None:
            self._process.kill()
            self.wait(None)

    def failure(self, code: int) -> str:
        """Why it ended with ``code``: the last line that it said."""
        if code < 0:
            return f"it was killed by {signal.Signals(-code).name}"
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1].removeprefix(_COMPLAINT) if lines else f"it ended with code {code}"


def name_inside(device: str) -> str:
    """What a :class:`Child` calls ``device``: the one GPU that it sees has no number."""
    return device.partition(":")[0]


def _environment(device: str) -> dict[str, str]:
    """This one's, in which ``device`` is the only GPU."""
    kind, _, number = device.partition(":")
    if kind != "cuda":
        return dict(os.environ)
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    at = int(number or 0)
    return os.environ | {"CUDA_VISIBLE_DEVICES": seen.split(",")[at].strip() if seen else str(at)}


def _end_with_parent() -> None:
    while os.read(0, 1):  # Not sys.stdin, whose lock this thread would still hold when the interpreter ends.
        pass
    _thread.interrupt_main()
    time.sleep(GRACE)
    os._exit(1)


def main() -> int:
    """Run a module's ``main`` as a child."""
    # A parent without a terminal may hand down that it is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    module, *arguments = sys.argv[1:]
    sys.argv = ["emotalking", *arguments]
    return importlib.import_module(module).main(arguments)


if __name__ == "__main__":
    sys.exit(main())
