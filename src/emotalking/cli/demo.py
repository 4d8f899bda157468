"""``emotalking demo``: the whole way on the synthetic actor."""

import argparse
from pathlib import Path

from emotalking.cli.options import add_device

IF_INTERRUPTED = "run the same command again: what was prepared and the last checkpoint are used"


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the results (default: %(default)s)")
    add_device(parser)


def run(args: argparse.Namespace) -> None:
    """Run it and print its figures."""
    from emotalking.cli.options import note
    from emotalking.testing.demo import run_demo, table

    made = run_demo(args.out, device=args.device, log=note)
    print(table(made.report))
    note(f"look at {made.sheet} and {made.video} (with sound)")
