"""Notes for the person at the terminal; results on standard output stay clean."""

import logging
import sys

from emotalking.progress import SafeConsole

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


def output(*, highlight: bool = False, soft_wrap: bool = False) -> SafeConsole:
    """A console on standard output."""
    stream = getattr(sys.stdout, "stream", sys.stdout)  # without the escapes, as this console escapes by itself
    return SafeConsole(file=stream, highlight=highlight, soft_wrap=soft_wrap)
