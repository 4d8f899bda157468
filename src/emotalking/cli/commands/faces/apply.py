"""``emotalking faces apply``."""

from emotalking import api
from emotalking.cli.commands import Arguments
from emotalking.cli.console import note

SECTION = "use it"
FUNCTION = api.edit_faces
IF_INTERRUPTED = (
    "no image and no video was written; frames already in a folder are whole, and --overwrite replaces them"
)
EXAMPLES = """examples:
  emotalking faces apply portrait.jpg -o happy.png --emotion happy
  emotalking faces apply clip.mp4 -o angry.mp4 --va -0.7,0.3
  emotalking faces apply someone -o frames --track emotions.csv
  emotalking faces apply someone -o happy.mp4 --emotion happy --generator paper
"""


def run(arguments: Arguments) -> None:
    """Edit the faces."""
    made = api.edit_faces(**arguments)
    kept = f"; {made.unchanged} show no face that can be edited and stayed as they were" if made.unchanged else ""
    note(f"{made.path}: {made.images} image{'s' * (made.images > 1)}{kept}")
