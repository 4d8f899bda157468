"""Jobs as tasks of a Ray cluster, on as many machines as it has.

Ray places the tasks by the resources that they ask for, and tells what was lost. Which jobs begin anew is decided
here, so that it ends: :attr:`JobsConfig.retries` counts lost machines, killed processes and full memory alike.
"""

import importlib
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from rich.progress import Progress

from emotalking import __version__
from emotalking.cores import allowed_cores, use_at_most
from emotalking.errors import InputError
from emotalking.io.reading import reason
from emotalking.jobs.cluster import cluster
from emotalking.jobs.config import JobsConfig
from emotalking.jobs.job import Job, Outcome, attempt, sentence
from emotalking.ops.devices import choose_device
from emotalking.options import Device
from emotalking.progress import bar, on_progress

_logger = logging.getLogger(__name__)

GRACE_S = 60.0
"""Seconds that jobs have to save their work after they were asked to stop."""
TICK_S = 0.5
"""Seconds between two updates of the display, and between two reports of a job."""
_UNITS = {"CPU": "cores", "GPU": "GPUs", "memory": "GB of memory"}
Told = tuple[str, float, float | None, str]
"""What a running job tells: its machine, what is done, the total (None: unknown), and of what."""


@contextmanager
def open_ray_engine(config: JobsConfig, device: Device) -> Iterator["RayEngine"]:
    """The engine of a cluster that is joined, or started here and ended with the block.

    Raises:
        InputError: as :func:`emotalking.jobs.engine.open_engine`.
    """
    if ":" in device:
        raise InputError(f"the device '{device}' names one GPU, and jobs get any that is free: give cuda, cpu or auto.")
    here = choose_device(device).type if config.address is None else ""
    with cluster(config.address, gpus=_gpus_here() if here == "cuda" else 0) as ray:
        if not here:
            here = ("cuda" if ray.cluster_resources().get("GPU") else "cpu") if device == "auto" else device
        share = max(1, allowed_cores() // (config.workers or 1)) if config.address is None else 1
        config = replace(
            config,
            cpus=share if config.cpus is None else config.cpus,
            gpus=float(here == "cuda") if config.gpus is None else config.gpus,
        )
        engine = RayEngine(ray, config, here)
        engine.check_room()
        yield engine


def _gpus_here() -> int:
    import torch

    return torch.cuda.device_count()


class RayEngine:
    """Runs jobs on Ray (:class:`emotalking.jobs.engine.Engine`).

    Args:
        ray: the connected module.
        config: with the resources of a job.
        device: "cpu" or "cuda".
    """

    def __init__(self, ray: Any, config: JobsConfig, device: str) -> None:
        self.device = device
        self._ray, self._config = ray, config
        strategies = importlib.import_module("ray.util.scheduling_strategies")
        here = strategies.NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._board = ray.remote(num_cpus=0, scheduling_strategy=here)(Board).remote()
        self._task = ray.remote(
            num_cpus=config.cpus,
            num_gpus=config.gpus,
            memory=None if config.memory is None else int(config.memory * 1e9),
            max_retries=0,
            scheduling_strategy="SPREAD",
        )(_remote)

    def check_room(self) -> None:
        """Tell if there is room for fewer jobs at once than were asked for.

        Raises:
            InputError: there is none on this machine, and no other will join.
        """
        wanted = {"CPU": self._config.cpus, "GPU": self._config.gpus, "memory": (self._config.memory or 0) * 1e9}
        asked = {name: amount for name, amount in wanted.items() if amount}
        has = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        room = sum(int(min(one.get(name, 0) / amount for name, amount in asked.items())) for one in has)
        words = " and ".join(
            f"{amount / (1e9 if name == 'memory' else 1):g} {_UNITS[name]}" for name, amount in asked.items()
        )
        if not room and self._config.address is None:
            raise InputError(f"this machine has no room for a job of {words}: ask for less.")
        if not room:
            _logger.warning("no machine of the cluster has room for a job of %s: waiting for one that joins", words)
        elif room < (self._config.workers or 1):
            _logger.info("%d jobs at once, as there is no room for more of %s each", room, words)

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """See :class:`emotalking.jobs.engine.Engine`."""
        outcomes: dict[int, Outcome] = {}
        waiting = deque((number, 0) for number in range(len(jobs)))
        running: dict[Any, tuple[int, int]] = {}
        most = self._config.workers or len(jobs)
        with bar() as progress:
            shown = _Table(progress, len(jobs), self._ray, self._board)
            try:
                while waiting or running:
                    while waiting and len(running) < most:
                        number, failed = waiting.popleft()
                        running[self._begin(jobs[number])] = number, failed
                    for done in self._ray.wait(list(running), timeout=TICK_S)[0]:
                        number, failed = running.pop(done)
                        outcome = self._outcome(done, jobs[number])
                        if outcome.again and failed < self._config.retries:
                            _logger.info("%s, and begins anew", sentence(outcome))
                            waiting.append((number, failed + 1))
                            continue
                        outcomes[number] = outcome
                        _logger.info("%s", sentence(outcome))
                        shown.end(outcome.name)
                    shown.tick()
            except BaseException:
                self._stop(list(running))
                raise
        return [outcomes[number] for number in range(len(jobs))]

    def _begin(self, job: Job) -> Any:
        options = self._task.options(name=job.name)
        return options.remote(job, self._board, max(1, int(self._config.cpus or 1)), os.getcwd(), __version__)

    def _outcome(self, done: Any, job: Job) -> Outcome:
        """Outcome of an ended task."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(done)
        except (errors.RayTaskError, errors.TaskCancelledError) as error:
            return Outcome(job.name, job.output, "failed", f"it could not be begun: {_last_line(error)}")
        except errors.OutOfMemoryError:
            return Outcome(job.name, job.output, "failed", "its machine's memory was full", again=True)
        except errors.RayError as error:
            why = reason(error).partition(". ")[0].rstrip(".")  # Ray goes on for pages
            return Outcome(job.name, job.output, "failed", f"its process or machine was lost: {why}", again=True)

    def _stop(self, running: Sequence[Any]) -> None:
        """Have the running jobs save and end, and begin no other."""
        if running:
            _logger.info("waiting for %d jobs to save", len(running))
        with suppress(Exception):  # the cluster itself may be what is gone
            for task in running:
                self._ray.cancel(task)
            _, left = self._ray.wait(list(running), num_returns=len(running), timeout=GRACE_S)
            for task in left:
                self._ray.cancel(task, force=True)


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1]


def _remote(job: Job, board: Any, cores: int, folder: str, version: str) -> Outcome:
    """Run a job in a worker process of Ray."""
    host = socket.gethostname()
    if version != __version__:
        why = f"{host} has emotalking {__version__} instead of {version}: install the same there"
        return Outcome(job.name, job.output, "failed", why)
    if not job.log.parent.is_dir():
        why = f"{host} does not see the folder {job.log.parent}: every machine must see it under this name"
        return Outcome(job.name, job.output, "failed", why)
    import torch

    use_at_most(cores)
    torch.set_num_threads(cores)
    with suppress(OSError):  # for relative names in settings
        os.chdir(folder)
    on_progress(_Reporter(board, job.name, host))
    try:
        return attempt(job)
    finally:
        on_progress(None)


class _Reporter:
    """Progress callback of a worker process that tells the board."""

    def __init__(self, board: Any, name: str, host: str) -> None:
        self._board = board
        self._name = name
        self._host = host
        self._told = 0.0
        self(0, None, "begins")

    def __call__(self, done: float, total: float | None, what: str) -> None:
        now = time.monotonic()
        if now - self._told >= TICK_S:
            self._told = now
            self._board.tell.remote(self._name, (self._host, done, total, what))


class Board:
    """What the running jobs told last; an actor of Ray, on the machine of the command."""

    def __init__(self) -> None:
        self._told: dict[str, Told] = {}

    def tell(self, name: str, told: Told) -> None:
        """Note the progress of a job."""
        self._told[name] = told

    def news(self) -> dict[str, Told]:
        """What was told since the last call."""
        told, self._told = self._told, {}
        return told


class _Table:
    """Display of all jobs and of each that runs."""

    def __init__(self, progress: Progress, jobs: int, ray: Any, board: Any) -> None:
        self._progress = progress
        self._ray = ray
        self._board = board
        self._all = progress.add_task("jobs", total=jobs, note="")
        self._bars: dict[str, Any] = {}
        self._ended: set[str] = set()
        self._ticked = 0.0

    def end(self, name: str) -> None:
        """Remove the bar of a job."""
        self._ended.add(name)
        if name in self._bars:
            self._progress.remove_task(self._bars.pop(name))
        self._progress.advance(self._all)

    def tick(self) -> None:
        """Show what the jobs told."""
        if time.monotonic() - self._ticked < TICK_S:
            return
        self._ticked = time.monotonic()
        try:
            news: dict[str, Told] = self._ray.get(self._board.news.remote(), timeout=TICK_S)
        except self._ray.exceptions.RayError:  # no run ends for want of its display
            return
        for name, (host, done, total, what) in news.items():
            if name in self._ended:
                continue
            if name not in self._bars:
                self._bars[name] = self._progress.add_task(name, total=None, note="")
            self._progress.update(self._bars[name], completed=done, total=total, note=f"{what} ({host})")
