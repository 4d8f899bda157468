"""``emotalking train-many``."""

from emotalking import api
from emotalking.cli.commands import Arguments

SECTION = "make an avatar"
FUNCTION = api.train_many
IF_INTERRUPTED = "rerun the same command: finished avatars are kept, unfinished ones continue"
EXAMPLES = """examples:
  emotalking train-many subjects/* -o avatars
  emotalking train-many anna ben carla -o avatars --preset tiny --devices cuda:0,cuda:1

The output folder gets, of each subject, NAME.safetensors, its run folder NAME.safetensors.run with the training report,
and NAME.log with the messages; and index.html about all of them. An avatar that exists and was made with the same
settings is kept; a subject that cannot be trained does not stop the others (exit code 2 at the end).
"""


def run(arguments: Arguments) -> None:
    """Train the avatars, and print a table of them."""
    from emotalking.cli.console import note
    from emotalking.errors import InputError

    made = api.train_many(**arguments)
    print(made.table.markdown())
    note(f"see {made.page}")
    for name, why in made.failures.items():
        note(f"{name}: {why}")
    if made.failures:
        names = ", ".join(made.failures)
        raise InputError(f"{names} could not be trained: fix the errors reported above and rerun.")
