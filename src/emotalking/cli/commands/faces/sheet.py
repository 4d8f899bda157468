"""``emotalking faces sheet``."""

from emotalking import api
from emotalking.cli.commands import Arguments
from emotalking.cli.console import note

SECTION = "use it"
FUNCTION = api.face_sheet
IF_INTERRUPTED = "no image was written"
EXAMPLES = """examples:
  emotalking faces sheet portrait.jpg -o sheet.png
  emotalking faces sheet someone -o sheet.png --frame 300 --grid 5
"""


def run(arguments: Arguments) -> None:
    """Draw the sheet."""
    note(f"{api.face_sheet(**arguments)} is written")
