"""Engines that run jobs: one after another in this process, or on Ray (:mod:`emotalking.jobs.ray_engine`)."""

import gc
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from emotalking.jobs.config import JobsConfig
from emotalking.jobs.job import Job, Outcome, attempt
from emotalking.ops.devices import choose_device
from emotalking.options import Device

LONG_S = 5.0
"""Seconds of a job behind which a garbage collection, of a tenth of a second, is worth it."""
_logger = logging.getLogger(__name__)


@runtime_checkable
class Engine(Protocol):
    """Runs jobs."""

    device: str
    """Device that a job computes on, as it is called where the job runs."""

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Run all jobs; a failure stops no other.

        Returns:
            An outcome of each, in their order.
        """
        ...


class Sequential:
    """Runs jobs one after another in this process.

    Args:
        device: device of all jobs.
    """

    def __init__(self, device: str) -> None:
        self.device = device

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """See :class:`Engine`."""
        outcomes = []
        for number, job in enumerate(jobs, 1):
            _logger.info("%s: %d of %d, on %s (log: %s)", job.name, number, len(jobs), self.device, job.log)
            outcomes.append(attempt(job))
            if outcomes[-1].seconds > LONG_S:
                gc.collect()  # cycles of this job would keep its tensors during the next
        return outcomes


@contextmanager
def open_engine(config: JobsConfig, device: Device) -> Iterator[Engine]:
    """The engine that the options ask for; a Ray that it starts ends with the block.

    Raises:
        InputError: Ray is missing, or the cluster, the device or the resources are.
    """
    if config.sequential:
        yield Sequential(str(choose_device(device)))
        return
    from emotalking.jobs.ray_engine import open_ray_engine

    with open_ray_engine(config, device) as engine:
        yield engine
