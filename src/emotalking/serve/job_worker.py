"""The process of a job: a command ``emotalking`` that also writes its progress into a file."""

import importlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

from emotalking.io.files import write_bytes
from emotalking.progress import on_progress

_COMMANDS = "emotalking.cli.main"
"""Module whose ``main`` runs the commands."""
_EVERY_S = 0.25


class ProgressFile:
    """Progress callback that keeps the newest state in a JSON file: ``what``, ``done`` and ``total`` (null: unknown).

    Args:
        path: file, replaced four times a second at most, and at the end of each task.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = 0.0

    def __call__(self, done: float, total: float | None, what: str) -> None:
        """Note a task's progress."""
        now = time.monotonic()
        if now - self._written >= _EVERY_S or done == total:
            self._written = now
            write_bytes(self._path, json.dumps({"what": what, "done": done, "total": total}).encode())


def main(arguments: Sequence[str]) -> int:
    """Run the command ``arguments[1:]``; the file of its progress is ``arguments[0]``."""
    progress, *command = arguments
    on_progress(ProgressFile(Path(progress)))
    return importlib.import_module(_COMMANDS).main(command)
