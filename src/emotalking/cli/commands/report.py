"""``emotalking report``."""

from typing import Any

from emotalking import api

SECTION = "make an avatar"
FUNCTION = api.training_report


def run(arguments: dict[str, Any]) -> None:
    """Make the page."""
    from emotalking.cli.console import note

    note(f"{api.training_report(**arguments)} is ready")
