"""``emotalking preview``."""

from emotalking import api
from emotalking.cli.commands import Arguments

SECTION = "inspect"
FUNCTION = api.preview


def run(arguments: Arguments) -> None:
    """Draw both."""
    from emotalking.cli.console import note

    video, page = api.preview(**arguments)
    note(f"see {video} and {page}")
