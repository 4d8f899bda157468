"""``emotalking report``: the page of a training run."""

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("run", type=Path, help="run folder, such as someone.safetensors.run; it may still be training")
    parser.add_argument(
        "--tensorboard",
        action="store_true",
        help="make the TensorBoard events anew (needs emotalking[tensorboard]; not while a run writes them)",
    )


def run(args: argparse.Namespace) -> None:
    """Make the page."""
    from emotalking import api
    from emotalking.cli.options import note

    note(f"{api.report(args.run, tensorboard=args.tensorboard)} is ready")
