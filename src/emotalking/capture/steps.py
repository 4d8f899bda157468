"""Steps that remember what they made: a finished one is not run again, an interrupted one is run anew."""

import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from emotalking.progress import track
from emotalking.subject import write
from emotalking.subject.files import SubjectFiles

Item = TypeVar("Item")
Job = TypeVar("Job")

LOOKAHEAD = 8
"""Frames in flight between reading and writing; memory stays flat."""


class Steps:
    """Runs the steps of a capture in order and records them in ``subject.json``.

    Each step has a key made of its own settings and of the keys of the steps that it builds on. It is skipped if the
    manifest holds the same key and its files are there. Before a step begins to write, its old record and the cameras
    leave the folder: whatever stops it then, nobody takes its half-made files for finished ones.
    """

    def __init__(self, root: Path, manifest: dict[str, Any], key: str) -> None:
        self.root, self.manifest = root, manifest
        self._key = key
        self._old: dict[str, Any] = dict(manifest.get("steps", {}))
        manifest["steps"] = {}
        self.ran: list[str] = []
        """Names of the steps that did run."""

    def run(
        self,
        name: str,
        work: Callable[[Job], dict[str, Any]],
        job: Job,
        needs: Sequence[str] = (),
        settings: Any = None,
        complete: Callable[[], bool] = lambda: True,
    ) -> None:
        """Call ``work(job)`` unless its product is there; what it returns is recorded with its key and its seconds.

        Args:
            name: of the step.
            work: makes the files.
            job: handed to ``work``.
            needs: names of the earlier steps whose products it reads.
            settings: everything, JSON, that the product depends on besides them.
            complete: tells whether the files of the step are all there.
        """
        key = digest([self._key, name, settings, [self.facts(earlier)["key"] for earlier in needs]])
        record = self._old.pop(name, None)
        if record is None or record.get("key") != key or not complete():
            for split in ("train", "val"):
                SubjectFiles(self.root).transforms(split).unlink(missing_ok=True)
            if record is not None:
                self._write()
            begin = time.perf_counter()
            facts = work(job)
            record = {"key": key, "seconds": round(time.perf_counter() - begin, 1), **facts}
            self.ran.append(name)
        self.manifest["steps"][name] = record
        self._write()

    def _write(self) -> None:
        """The manifest; steps that are yet to come keep their record, so that an interruption loses nothing."""
        write.write_manifest(self.root, {**self.manifest, "steps": {**self.manifest["steps"], **self._old}})

    def facts(self, name: str) -> dict[str, Any]:
        """What a finished step recorded."""
        return self.manifest["steps"][name]


def digest(content: Any) -> str:
    """Short hash of JSON content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def each_frame(
    frames: Iterable[Item], work: Callable[[int, Item], None], description: str, total: int, workers: int = 2
) -> int:
    """Call ``work(index, frame)`` for every frame on a few threads; returns the number of frames.

    The numeric libraries release the interpreter while they compute, so that two threads use two cores.
    """
    pending: deque[Future[None]] = deque()
    count = 0
    with ThreadPoolExecutor(workers) as pool:
        try:
            for count, frame in enumerate(track(frames, description, total), start=1):
                pending.append(pool.submit(work, count - 1, frame))
                if len(pending) >= LOOKAHEAD:
                    pending.popleft().result()
            while pending:
                pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
    return count
