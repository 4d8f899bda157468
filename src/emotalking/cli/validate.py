"""``emotalking validate``: what is missing or odd in a subject folder."""

import argparse
from pathlib import Path

_COLOURS = {"error": "bold red", "warning": "yellow", "note": "dim"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("subject", type=Path, help="subject folder, ours or of TalkingGaussian's or ER-NeRF's scripts")
    parser.add_argument(
        "--compat",
        "--peer",
        choices=("talkinggaussian", "ernerf"),
        help="check for that program's loader instead",
    )


def run(args: argparse.Namespace) -> None:
    """Show the findings; errors end with exit code 2."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from emotalking.data import validate
    from emotalking.errors import UserError

    found = validate(args.subject, args.compat)
    reader = "emotalking" if args.compat is None else args.compat
    console = Console(highlight=False)
    if found:
        table = Table(title=f"{args.subject}, as {reader} reads it", title_justify="left")
        for column in ("severity", "where", "what", "remedy"):
            table.add_column(column, overflow="fold")
        for finding in found:
            cells = (Text(text) for text in (finding.where, finding.what, finding.remedy))
            table.add_row(Text(finding.severity, _COLOURS[finding.severity]), *cells)
        console.print(table)
    errors = sum(finding.severity == "error" for finding in found)
    if errors:
        raise UserError(f"{args.subject} has {errors} error{'s' * (errors > 1)}: {reader} cannot use it as it is.")
    console.print(f"{args.subject}: {reader} can use it ({len(found)} finding{'s' * (len(found) != 1)}).", markup=False)
