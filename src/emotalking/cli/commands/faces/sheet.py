"""``emotalking faces sheet``."""

from typing import Any

from emotalking import api

SECTION = "use it"
FUNCTION = api.face_sheet
IF_INTERRUPTED = "no image was written"
EXAMPLES = """examples:
  emotalking faces sheet portrait.jpg -o sheet.png
  emotalking faces sheet someone -o sheet.png --frame 300 --grid 5
"""


def run(arguments: dict[str, Any]) -> None:
    """Draw the sheet."""
    from emotalking.cli.console import note

    note(f"{api.face_sheet(**arguments)} is written")
