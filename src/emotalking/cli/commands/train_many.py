"""``emotalking train-many``."""

from emotalking import api
from emotalking.cli.commands import Arguments
from emotalking.cli.console import announce_many

SECTION = "make an avatar"
FUNCTION = api.train_many
IF_INTERRUPTED = "rerun the same command: finished avatars are kept, unfinished ones continue"
EXAMPLES = """examples:
  emotalking train-many subjects/* -o avatars
  emotalking train-many anna ben carla -o avatars --preset tiny --workers 2
  emotalking train-many subjects/* -o avatars --address auto
  emotalking train-many subjects/anna subjects/ben -o avatars --consent statements

The output folder gets, of each subject, NAME.safetensors, its run folder NAME.safetensors.run with the training report,
and NAME.log with the messages; and index.html about all of them. An avatar that exists and was made with the same
settings is kept; a subject that cannot be trained does not stop the others (exit code 2 at the end).
Without --workers and --address, one after another. --workers 2 runs two at once on this machine, --address joins a Ray
cluster whose machines see the same folders (pip install 'emotalking[cluster]'; docs/many.md).
"""


def run(arguments: Arguments) -> None:
    """Train the avatars, and print a table of them."""
    announce_many(api.train_many(**arguments), "trained")
