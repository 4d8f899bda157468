"""Resumable steps with a record of their products, and work on all frames in parallel."""

import hashlib
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import cv2
import torch

from emotalking.cores import allowed_cores
from emotalking.data import writer as write
from emotalking.data.files import SubjectFiles
from emotalking.preprocess.processes import processes
from emotalking.progress import doing, track

_logger = logging.getLogger("emotalking.preprocess")

Item = TypeVar("Item")
Result = TypeVar("Result")
Job = TypeVar("Job")

LOOKAHEAD = 3
"""Frames in flight per worker; memory stays flat."""


class Unfinished(Exception):
    """A step's product is not there, or was made otherwise."""


class Steps:
    """Runs the steps of a capture in order and records them in ``subject.json``.

    Each step has a key made of its own settings and of the keys of the steps that it builds on. It is skipped if the
    manifest holds the same key and its files are there. Before a step begins to write, its old record and the cameras
    are removed: if it is interrupted, its partial files are never used as finished ones.
    """

    def __init__(self, root: Path, manifest: dict[str, Any], key: str) -> None:
        self.root, self.manifest = root, manifest
        self._key = key
        self._old: dict[str, Any] = dict(manifest.get("steps", {}))
        manifest["steps"] = {}
        self._made = False

    def run(
        self,
        name: str,
        work: Callable[[Job], dict[str, Any]],
        job: Job,
        needs: Sequence[str] = (),
        settings: object = None,
        complete: Callable[[], bool] = lambda: True,
    ) -> None:
        """Call ``work(job)`` unless its product is there; what it returns is recorded with its key and its seconds.

        ``warnings`` among what it returns, a list of sentences, are also logged.

        Args:
            name: of the step.
            work: makes the files.
            job: passed to ``work``.
            needs: names of the earlier steps whose products it reads.
            settings: everything, JSON, that the product depends on, too.
            complete: returns True if all files of the step exist.
        """
        key = self._key_of(name, needs, settings)
        record = self._finished(name, key, complete)
        self._old.pop(name, None)
        if record is None:
            if not self._made and (kept := list(self.manifest["steps"])):
                _logger.info("%s: going on after the step %s of an earlier run", self.root, kept[-1])
            self._made = True
            if self.root.exists() and any(self.root.iterdir()):  # no folder for a clip that the first step refuses
                for split in ("train", "val"):
                    SubjectFiles(self.root).transforms(split).unlink(missing_ok=True)
                self._write()
            begin = time.perf_counter()
            with doing(name):
                facts = work(job)
            record = {"key": key, "seconds": round(time.perf_counter() - begin, 1), **facts}
            for warning in facts.get("warnings", ()):
                _logger.info("note: %s", warning)
        self.manifest["steps"][name] = record
        self._write()

    def require(
        self,
        name: str,
        work: Callable[[Job], dict[str, Any]],
        job: Job,
        needs: Sequence[str] = (),
        settings: object = None,
        complete: Callable[[], bool] = lambda: True,
    ) -> None:
        """Take a step from the manifest, where :meth:`run` would do nothing.

        Raises:
            Unfinished: it would call ``work``.
        """
        record = self._finished(name, self._key_of(name, needs, settings), complete)
        if record is None:
            raise Unfinished(name)
        self.manifest["steps"][name] = record

    def _finished(self, name: str, key: str, complete: Callable[[], bool]) -> dict[str, Any] | None:
        """Record of a step whose product is there and was made with ``key``."""
        record = self._old.get(name)
        return record if record is not None and record.get("key") == key and complete() else None

    def _key_of(self, name: str, needs: Sequence[str], settings: object) -> str:
        return digest([self._key, name, settings, [self.facts(earlier)["key"] for earlier in needs]])

    def _write(self) -> None:
        """The manifest; pending steps keep their record, so that an interruption loses no work."""
        write.write_manifest(self.root, {**self.manifest, "steps": {**self.manifest["steps"], **self._old}})

    def facts(self, name: str) -> dict[str, Any]:
        """Record of a finished step."""
        return self.manifest["steps"][name]


def digest(content: object) -> str:
    """Short hash of JSON content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


@contextmanager
def one_thread() -> Iterator[None]:
    """Let this thread's PyTorch compute alone, for networks of a hundred short operations on one frame (a decorator).

    OpenMP's threads wait for each other after every one: on two shared cores the face mesh took 331 ms of processor
    time by two threads that spin, 38 where they soon sleep, and 13 by one.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def map_frames(
    frames: Iterable[Item], work: Callable[[int, Item], Result], *, shared: bool = False, most: int | None = None
) -> Iterator[Result]:
    """``work(index, frame)`` for every frame on all cores; the results come in the order of the frames.

    On a few cores threads serve: numpy, OpenCV and PyTorch release the interpreter while they compute. On more, and
    within :func:`~.processes.with_processes`, the work is done by processes. Only a few frames a worker are in flight,
    so that memory stays flat. Work that needs the frame before (tracking, smoothing over time) belongs into the loop
    that takes the results::

        scored = map_frames(zip(images, points), partial(score, parser))
        each_frame((steadier(score) for score in scored), partial(save, folder), "masks", count)

    Args:
        frames: read one after another in the calling thread.
        work: called in the workers, one a core; it keeps what two of them must not share in a :class:`threading.local`.
        shared: it works with this process's memory or devices, and threads must do.
        most: workers at most; None: a worker for each core.
    """
    workers, threads, cv_threads = allowed_cores(), torch.get_num_threads(), cv2.getNumThreads()
    workers = workers if most is None else min(workers, most)
    pool = None if shared else processes()
    call = work if pool is None else pool.remote(work)
    cv2.setNumThreads(1)  # a worker a core: OpenCV's own threads would fight for the same ones
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as executor:
        try:
            for index, frame in enumerate(frames):
                pending.append(executor.submit(call, index, frame))
                if len(pending) >= workers * LOOKAHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
            torch.set_num_threads(threads)  # the workers have set it for every later thread
            cv2.setNumThreads(cv_threads)


def each_frame(frames: Iterable[Item], work: Callable[[int, Item], object], description: str, total: int) -> None:
    """Call ``work(index, frame)`` for every frame on all cores (:func:`map_frames`) with a progress bar."""
    for _ in track(map_frames(frames, work), description, total):
        pass
