"""``emotalking faces train``."""

from emotalking import api
from emotalking.cli.commands import Arguments
from emotalking.cli.console import announce_device, note

SECTION = "use it"
FUNCTION = api.train_faces
IF_INTERRUPTED = "no generator was written; rerun the same command to continue from the last checkpoint"


def run(arguments: Arguments) -> None:
    """Train the generator."""
    announce_device("training", arguments["device"])
    made = api.train_faces(**arguments)
    note(f"{made} is ready: 'emotalking train {arguments['subject']} -o AVATAR --generator paper'")
