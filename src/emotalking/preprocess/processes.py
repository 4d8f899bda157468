"""Worker processes for the work on frames.

Threads of one interpreter serve on a few cores. A frame's masks are more than a thousand short calls of numpy, OpenCV
and PyTorch, and each of them gives the interpreter away and waits for it again: the more threads wait, the longer it
takes. A process has an interpreter of its own.

The processes are started here, not by ``multiprocessing``, which runs the user's main module again in each of them.
"""

import importlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from itertools import count
from queue import LifoQueue
from typing import Any, BinaryIO, TypeVar, cast

from emotalking.cores import allowed_cores
from emotalking.errors import InputError

MOST_THREADS = 4
"""On more cores than this, processes are started."""
Item = TypeVar("Item")
Result = TypeVar("Result")


class Process:
    """A process that computes what it is sent, one call at a time; it ends with this one, in any way."""

    def __init__(self) -> None:
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "emotalking.preprocess.processes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
            start_new_session=True,  # Ctrl-C is for the process that waits for the results
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # the same on Windows
        )
        self._known: set[int] = set()

    def call(self, key: int, work: bytes, index: object, item: object) -> Any:
        """What the pickled function ``work``, sent at the first call with this ``key``, makes of a frame.

        Raises:
            InputError: the process was ended from outside; any exception of the function.
        """
        send, receive = cast("BinaryIO", self._process.stdin), cast("BinaryIO", self._process.stdout)
        try:
            pickle.dump((key, b"" if key in self._known else work, index, item), send, pickle.HIGHEST_PROTOCOL)
            send.flush()
            done, result = pickle.load(receive)
        except (EOFError, OSError, pickle.UnpicklingError):
            code = self._process.wait()
            raise InputError(
                f"a process that works on frames ended with code {code}: there may be too little memory for "
                f"{allowed_cores()} of them; allow fewer cores."
            ) from None
        self._known.add(key)
        if not done:
            raise result
        return result

    def close(self) -> None:
        """End it."""
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # it may have ended before it read everything
                cast("BinaryIO", pipe).close()
        self._process.wait()


class Processes:
    """At most so many processes as there are cores, each started when it is needed."""

    def __init__(self) -> None:
        self._idle: LifoQueue[Process | None] = LifoQueue()
        self._started: list[Process] = []
        self._keys = count()
        for _ in range(allowed_cores()):
            self._idle.put(None)

    def remote(self, work: Callable[[int, Item], Result]) -> Callable[[int, Item], Result]:
        """A function that has ``work``, which can be pickled, done by a process that is idle; threads may share it."""
        key, pickled = next(self._keys), pickle.dumps(work, pickle.HIGHEST_PROTOCOL)

        def call(index: int, item: Item) -> Result:
            process = self._idle.get()
            try:
                if process is None:
                    process = Process()
                    self._started.append(process)
                return process.call(key, pickled, index, item)
            finally:
                self._idle.put(process)

        return call

    def close(self) -> None:
        """End all processes."""
        for process in self._started:
            process.close()


_current: ContextVar[Processes | None] = ContextVar("_current", default=None)


def processes() -> Processes | None:
    """Those of the surrounding :func:`with_processes`."""
    return _current.get()


@contextmanager
def with_processes() -> Iterator[None]:
    """Let :func:`~.steps.map_frames` use processes within the block, where there are more than a few cores."""
    if allowed_cores() <= MOST_THREADS:
        yield
        return
    pool = Processes()
    token = _current.set(pool)
    try:
        yield
    finally:
        _current.reset(token)
        pool.close()


def _portable(error: Exception) -> Exception:
    """An exception that can be sent; those whose arguments are not those of their class cannot."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return InputError(str(error)) if isinstance(error, InputError) else RuntimeError(f"{error!r}")
    return error


def main() -> None:
    """Compute what comes from standard input until it ends."""
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what is printed must not come between the results
    for name, setter in (("cv2", "setNumThreads"), ("torch", "set_num_threads")):
        getattr(importlib.import_module(name), setter)(1)
    known: dict[int, Callable[[int, object], object]] = {}
    while True:
        try:
            key, work, index, item = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        answer: tuple[bool, object]
        try:
            if work:
                known[key] = pickle.loads(work)
            answer = True, known[key](index, item)
        except Exception as error:
            answer = False, _portable(error)
        pickle.dump(answer, results, pickle.HIGHEST_PROTOCOL)
        results.flush()


if __name__ == "__main__":
    main()
