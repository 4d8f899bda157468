"""Ray, joined or started (optional extra ``cluster``)."""

import importlib
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType

from emotalking.cores import allowed_cores
from emotalking.errors import InputError, MissingPackageError
from emotalking.io.reading import reason
from emotalking.progress import doing

_STORE_BYTES = 100 << 20
"""Of the object store of a Ray that is started here; jobs exchange files, and next to nothing by it."""


@contextmanager
def cluster(address: str | None, *, gpus: int = 0) -> Iterator[ModuleType]:
    """The module ``ray``, connected to a cluster within the block.

    A program that has connected before stays connected, to its own cluster.

    Args:
        address: HOST:PORT of the cluster's head, or auto (the one that this machine belongs to); None: start Ray on
            this machine alone, which ends with the block.
        gpus: GPUs of a Ray that is started here.

    Raises:
        MissingPackageError: Ray is not installed.
        InputError: the cluster cannot be joined, or Ray cannot be started.
    """
    ray = _ray()
    if ray.is_initialized():
        yield ray
        return
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere unasked
    before = signal.getsignal(signal.SIGTERM)
    with doing("starting Ray" if address is None else f"joining the Ray cluster at {address}"):
        try:
            if address is None:
                ray.init(
                    "local",
                    num_cpus=allowed_cores(),
                    num_gpus=gpus,
                    object_store_memory=_STORE_BYTES,
                    include_dashboard=False,
                    **quiet,
                )
            else:
                ray.init(address, **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            if address is None:
                raise InputError(f"Ray cannot be started ({reason(error)}).") from error
            raise InputError(
                f"the Ray cluster at {address} cannot be joined ({reason(error)}): give the address that 'ray start "
                "--head' printed, and run this on one of its machines."
            ) from error
    with suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)  # with Ray's own, the process would end without a word
    try:
        yield ray
    finally:
        ray.shutdown()


def _ray() -> ModuleType:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise MissingPackageError(
            "more than one worker, or a cluster, needs Ray: pip install 'emotalking[cluster]', or let the jobs run one "
            "after another (1 worker)."
        ) from error
