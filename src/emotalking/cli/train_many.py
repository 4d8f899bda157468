"""``emotalking train-many``: many subject folders to avatar files."""

import argparse
from pathlib import Path

from emotalking.cli.options import add_devices, add_settings

IF_INTERRUPTED = "run the same command again: finished avatars are kept, begun ones go on"

_EXAMPLES = """examples:
  emotalking train-many subjects/* -o avatars
  emotalking train-many anna ben carla -o avatars --preset tiny --devices cuda:0,cuda:1

FOLDER gets, of each subject, NAME.safetensors, its run folder NAME.safetensors.run with the page of its training, and
NAME.log with what was said; and index.html about all of them. An avatar that is there and was made with the same
settings is kept; a subject that cannot be trained does not stop the others (exit code 2 at the end).
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.epilog = _EXAMPLES
    parser.add_argument("subjects", type=Path, nargs="+", metavar="SUBJECT", help="subject folders")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder for the avatars")
    parser.add_argument(
        "--preset", choices=("tiny", "fast", "paper"), default="fast", help="of every avatar (default: %(default)s)"
    )
    add_devices(parser, "subject")
    add_settings(parser, "the preset")


def run(args: argparse.Namespace) -> None:
    """Train the avatars, and print a table of them."""
    from emotalking import api
    from emotalking.cli.options import note
    from emotalking.errors import UserError
    from emotalking.report import Table

    made = api.train_many(
        args.subjects,
        args.output,
        preset=args.preset,
        devices=args.devices,
        overrides=args.settings,
    )
    print(Table(made.HEADER, made.rows).markdown())
    note(f"look at {made.page}")
    for name, why in made.failures.items():
        note(f"{name}: {why}")
    if made.failures:
        names = ", ".join(made.failures)
        raise UserError(f"{names} could not be trained: mend what is said above and run the same command again.")
