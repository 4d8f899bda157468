"""Options of the verbs about many subjects, without anything heavy: the command line is made from them."""

import math
import re
from dataclasses import dataclass

from emotalking.errors import InputError

_ADDRESS = re.compile(r"auto|[^\s:/]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}")


@dataclass(frozen=True)
class JobsConfig:
    """Where jobs run, and how many at once.

    Without ``workers`` and ``address`` they run one after another in this process. Both need the extra
    ``emotalking[cluster]`` (Ray), and what follows them is for Ray alone.
    """

    workers: int | None = None
    """jobs at once; None: one after another, or with an address as many as the cluster has room for."""
    address: str | None = None
    """Ray cluster to join: HOST:PORT of its head, or auto (the one that this machine belongs to); None: this machine
    alone."""
    gpus: float | int | None = None
    """GPUs of a job, 0.5: two jobs share one; None: 1 where the jobs run on GPUs, else 0."""
    cpus: float | int | None = None
    """CPU cores of a job, which computes with as many threads; None: an equal share of this machine, on a cluster 1."""
    memory: float | int | None = None
    """memory [GB] of a job, by which a machine takes no more jobs than it has room for; None: not counted."""
    retries: int = 3
    """how often a job begins anew, from its last checkpoint, after its machine or process was lost or memory was
    full."""

    def __post_init__(self) -> None:
        """Refuse what no cluster could do."""
        if self.workers is not None and self.workers < 1:
            raise InputError(f"workers is {self.workers}: give 1 or more.")
        if self.address is not None and not _ADDRESS.fullmatch(self.address):
            client = " (a ray:// client cannot; run the command on a machine of the cluster)"
            raise InputError(
                f"the address '{self.address}' cannot be joined{client if '://' in self.address else ''}: give "
                "HOST:PORT of the cluster's head, or auto."
            )
        for name, lowest in (("gpus", 0.0), ("cpus", 0.01), ("memory", 0.001)):
            value = getattr(self, name)
            if value is not None and not (lowest <= value and math.isfinite(value)):
                raise InputError(f"{name} is {value:g}: give {'0' if name == 'gpus' else 'a number above 0'} or more.")
        if self.retries < 0:
            raise InputError(f"retries is {self.retries}: give 0 or more.")

    @property
    def sequential(self) -> bool:
        """True if the jobs run one after another in this process."""
        return self.address is None and self.workers in (None, 1)
