"""``emotalking validate``."""

from emotalking import api
from emotalking.cli.commands import Arguments
from emotalking.cli.console import output
from emotalking.errors import InputError

SECTION = "inspect"
FUNCTION = api.validate
_COLOURS = {"error": "bold red", "warning": "yellow", "note": "dim"}


def run(arguments: Arguments) -> None:
    """Show the findings; errors end with exit code 2."""
    from rich.table import Table
    from rich.text import Text

    found = api.validate(**arguments)
    subject, reader = arguments["subject"], arguments["compat"] or "emotalking"
    console = output(highlight=False)
    if found:
        table = Table(title=f"{subject}, as {reader} reads it", title_justify="left")
        for column in ("severity", "where", "what", "remedy"):
            table.add_column(column, overflow="fold")
        for finding in found:
            cells = (Text(text) for text in (finding.where, finding.what, finding.remedy))
            table.add_row(Text(finding.severity, _COLOURS[finding.severity]), *cells)
        console.print(table)
    errors = sum(finding.severity == "error" for finding in found)
    if errors:
        raise InputError(f"{subject} has {errors} error{'s' * (errors > 1)}: {reader} cannot use it as it is.")
    console.print(f"{subject}: {reader} can use it ({len(found)} finding{'s' * (len(found) != 1)}).", markup=False)
