"""``emotalking prepare-many``."""

from emotalking import api
from emotalking.cli.commands import Arguments
from emotalking.cli.console import announce_many

SECTION = "make an avatar"
FUNCTION = api.prepare_many
IF_INTERRUPTED = "rerun the same command: finished folders are kept, unfinished ones continue"
EXAMPLES = """examples:
  emotalking prepare-many clips/*.mp4 -o subjects
  emotalking prepare-many clips/*.mp4 -o subjects --size 256 --workers 4
  emotalking prepare-many clips/*.mp4 -o subjects --address auto

The output folder gets, of each clip NAME.mp4, the subject folder NAME and NAME.log with the messages; and index.html
about all of them. A folder that is finished, with the same options, is kept; a clip that cannot be prepared does not
stop the others (exit code 2 at the end).
Without --workers and --address, one after another. --workers 2 runs two at once on this machine, --address joins a Ray
cluster whose machines see the same folders (pip install 'emotalking[cluster]'; docs/many.md).
"""


def run(arguments: Arguments) -> None:
    """Prepare the clips, and print a table of them."""
    announce_many(api.prepare_many(**arguments), "prepared")
