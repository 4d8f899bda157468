"""Notes for the person at the terminal; results on standard output stay clean."""

import logging
import sys
from typing import TYPE_CHECKING

from emotalking.errors import InputError

if TYPE_CHECKING:
    from emotalking.jobs.page import ManyResult
    from emotalking.progress import SafeConsole
    from emotalking.train.many import TrainManyResult

note = logging.getLogger("emotalking").info
"""Print a line on standard error."""


def announce_device(activity: str, device: str) -> None:
    """Print which device and back end do the work; of a list, the first.

    Raises:
        DeviceError: it cannot be used.
    """
    from emotalking.progress import doing

    with doing("loading PyTorch"):
        from emotalking.ops.devices import choose_device
    chosen = choose_device(device.partition(",")[0])
    if chosen.type == "cuda":
        import torch

        from emotalking.ops.cuda.build import available

        kernels = "our own kernels" if available() else "gsplat"
        note(f"{activity} on {torch.cuda.get_device_name(chosen)} ({kernels})")
        return
    from emotalking.ops.cpu.build import NoCompiler
    from emotalking.ops.cpu.rasterize import library

    try:
        with doing("loading the CPU kernels, or compiling them"):
            library()
    except NoCompiler as error:
        note(f"{activity} on the CPU with the slow reference renderer ({str(error).splitlines()[0]})")
    else:
        note(f"{activity} on the CPU (compiled kernel)")


def output(*, highlight: bool = False, soft_wrap: bool = False) -> "SafeConsole":
    """A console on standard output."""
    from emotalking.progress import SafeConsole

    stream = getattr(sys.stdout, "stream", sys.stdout)  # without the escapes, as this console escapes by itself
    return SafeConsole(file=stream, highlight=highlight, soft_wrap=soft_wrap)


def announce_many(made: "ManyResult | TrainManyResult", verb: str) -> None:
    """Print the table of many jobs, their page and their failures.

    Args:
        verb: what was done, such as "trained".

    Raises:
        InputError: some failed.
    """
    print(made.table.markdown())
    note(f"see {made.page}")
    for name, why in made.failures.items():
        note(f"{name}: {why}")
    if made.failures:
        names = ", ".join(made.failures)
        raise InputError(f"{names} could not be {verb}: fix the errors reported above and rerun.")
