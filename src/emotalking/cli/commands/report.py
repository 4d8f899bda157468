"""``emotalking report``."""

from emotalking import api
from emotalking.cli.commands import Arguments
from emotalking.cli.console import note

SECTION = "make an avatar"
FUNCTION = api.training_report


def run(arguments: Arguments) -> None:
    """Make the page."""
    note(f"{api.training_report(**arguments)} is ready")
