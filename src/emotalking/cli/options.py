"""Options and notes that commands share."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def add_device(parser: "argparse.ArgumentParser | argparse._ArgumentGroup") -> None:
    """``--device``."""
    parser.add_argument(
        "--device", default="auto", help="auto (a GPU if there is one), cpu, cuda, cuda:1, ... (default: %(default)s)"
    )


def note(message: str) -> None:
    """A line for the person at the terminal; results on standard output stay clean."""
    from emotalking.progress import console

    console.print(message, highlight=False, markup=False, soft_wrap=True)


def say_device(doing: str, device: "torch.device") -> None:
    """Tell which device and back end do the work."""
    if device.type == "cuda":
        import torch

        note(f"{doing} on {torch.cuda.get_device_name(device)} (gsplat)")
        return
    from emotalking.ops.cpu.build import NoCompiler
    from emotalking.ops.cpu.rasterize import library

    try:
        library()
    except NoCompiler as error:
        note(f"{doing} on the CPU with the slow reference renderer ({str(error).splitlines()[0]})")
    else:
        note(f"{doing} on the CPU (compiled kernel)")
