"""``emotalking preview``."""

from typing import Any

from emotalking import api

SECTION = "inspect"
FUNCTION = api.preview


def run(arguments: dict[str, Any]) -> None:
    """Draw both."""
    from emotalking.cli.console import note

    video, page = api.preview(**arguments)
    note(f"see {video} and {page}")
