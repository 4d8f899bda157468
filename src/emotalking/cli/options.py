"""Options and notes that commands share."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def add_device(parser: "argparse.ArgumentParser | argparse._ArgumentGroup", more: str = "") -> None:
    """``--device``; ``more``: what else it can be."""
    usual = "auto (a GPU if there is one), cpu, cuda, cuda:1, ..."
    parser.add_argument("--device", default="auto", help=f"{usual}{more} (default: %(default)s)")


def add_devices(parser: argparse.ArgumentParser, job: str) -> None:
    """``--devices``, each of which works on one ``job`` at a time."""
    parser.add_argument(
        "--devices",
        default="auto",
        metavar="LIST",
        help=f"such as cuda:0,cuda:1: one {job} at a time on each (default: every GPU, else the processor)",
    )


def add_settings(parser: argparse.ArgumentParser, of: str) -> None:
    """``--set``, as ``settings``; ``of``: what it changes."""
    parser.add_argument(
        "--set",
        dest="settings",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help=f"change one setting of {of}, such as face.iterations=2000; may be repeated",
    )


def add_generator(parser: "argparse.ArgumentParser | argparse._ArgumentGroup") -> None:
    """``--generator``, ``--faces``."""
    parser.add_argument(
        "--generator",
        choices=("mesh", "paper"),
        default="mesh",
        help="what makes emotional faces: mesh (embedded, default), or paper (StyleGAN2, EmoStyle and LipExtract as "
        "'emotalking faces train' left them)",
    )
    parser.add_argument(
        "--faces", type=Path, metavar="FILE", help="of --generator paper (default: faces.safetensors in the subject)"
    )


def add_evaluation_models(parser: argparse.ArgumentParser) -> None:
    """``--expert``, ``--emotion-model`` (``--judge`` for one more release), ``--lpips``."""
    models = parser.add_argument_group("evaluation models")
    models.add_argument(
        "--expert",
        default="auto",
        help="lip sync: syncnet (syncnet_v2.model in the model folder, see 'emotalking models'), personal "
        "(sync_expert.safetensors in the subject folder, made by 'emotalking sync train'), an expert's FILE, none, or "
        "auto (default): syncnet if it is there, else personal, else no lip sync, and the report says why",
    )
    models.add_argument(
        "--emotion-model",
        "--judge",
        default="landmarks",
        choices=("landmarks", "emonet", "emonet5"),
        help="valence, arousal and expression (default: %(default)s)",
    )
    models.add_argument(
        "--lpips",
        default="auto",
        choices=("auto", "alex", "vgg", "squeeze", "none"),
        help="its backbone; auto: the first whose weights are there (default: %(default)s)",
    )


def note(message: str) -> None:
    """A line for the person at the terminal; results on standard output stay clean."""
    from emotalking.progress import console

    console.print(message, highlight=False, markup=False, soft_wrap=True)


def say_device(doing: str, device: "torch.device") -> None:
    """Tell which device and back end do the work."""
    if device.type == "cuda":
        import torch

        from emotalking.ops.cuda.build import available

        kernels = "our own kernels" if available() else "gsplat"
        note(f"{doing} on {torch.cuda.get_device_name(device)} ({kernels})")
        return
    from emotalking.ops.cpu.build import NoCompiler
    from emotalking.ops.cpu.rasterize import library

    try:
        library()
    except NoCompiler as error:
        note(f"{doing} on the CPU with the slow reference renderer ({str(error).splitlines()[0]})")
    else:
        note(f"{doing} on the CPU (compiled kernel)")
