"""``emotalking report``."""

from emotalking import api
from emotalking.cli.commands import Arguments

SECTION = "make an avatar"
FUNCTION = api.training_report


def run(arguments: Arguments) -> None:
    """Make the page."""
    from emotalking.cli.console import note

    note(f"{api.training_report(**arguments)} is ready")
