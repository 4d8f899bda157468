"""``emotalking preview``."""

from emotalking import api
from emotalking.cli.commands import Arguments
from emotalking.cli.console import note

SECTION = "inspect"
FUNCTION = api.preview


def run(arguments: Arguments) -> None:
    """Draw both."""
    video, page = api.preview(**arguments)
    note(f"see {video} and {page}")
