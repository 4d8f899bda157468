"""Worker processes that end with the process that started them.

Such a process has a pipe from its parent as standard input, and stops as by Ctrl-C when the other end is closed:
by the parent, or because it ended in any way. It belongs to no terminal, so that Ctrl-C reaches the parent
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
"""Seconds that a worker has to save its work after it was asked to stop."""
_ERROR_PREFIX = "emotalking: error: "


class Worker:
    """A worker process.

    Args:
        module: whose ``main(arguments)`` it runs, which returns its exit code.
        device: "cpu", or the GPU visible to it, as its only one: "cuda" (:func:`visible_name`).
        log: file that its output is appended to.
    """

    def __init__(self, module: str, arguments: Sequence[str], device: str, log: Path) -> None:
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "emotalking.serve.worker", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=_environment(device),
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # the same on Windows
            )

    def wait(self, seconds: float | int | None = 0) -> int | None:
        """Exit code; None if it still runs after ``seconds`` (None: wait for its end)."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def request_stop(self) -> None:
        """Ask it to save and end, without waiting for that."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    def stop(self) -> None:
        """Ask it to save and end, and wait for that; kill it after :data:`GRACE`."""
        self.request_stop()
        if self.wait(GRACE) is None:
            self._process.kill()
            self.wait(None)

    def failure(self, code: int) -> str:
        """Reason of the exit code ``code``: the last line of its output."""
        if code < 0:
            return f"it was killed by {signal.Signals(-code).name}"
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1].removeprefix(_ERROR_PREFIX).rstrip(".") if lines else f"it ended with code {code}"


def visible_name(device: str) -> str:
    """Name of ``device`` inside a :class:`Worker`: the one GPU that it sees has no number."""
    return device.partition(":")[0]


def _environment(device: str) -> dict[str, str]:
    """This environment with ``device`` as the only visible GPU."""
    kind, _, number = device.partition(":")
    if kind != "cuda":
        return dict(os.environ)
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    at = int(number or 0)
    return os.environ | {"CUDA_VISIBLE_DEVICES": seen.split(",")[at].strip() if seen else str(at)}


def _end_with_parent() -> None:
    while os.read(0, 1):  # Not sys.stdin, whose lock this thread would still hold when the interpreter ends.
        pass
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)  # This also ends what it waits for.
    else:  # Windows
        _thread.interrupt_main()
    time.sleep(GRACE)
    os._exit(1)


def main(arguments: Sequence[str]) -> int:
    """Run the ``main`` of the module ``arguments[0]`` with the others, as a worker."""
    # A parent without a terminal may hand down that it is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    module, *given = arguments
    return importlib.import_module(module).main(given)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
