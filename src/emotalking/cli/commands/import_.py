"""``emotalking import``."""

from emotalking import api
from emotalking.cli.commands import Arguments
from emotalking.cli.console import note

SECTION = "make an avatar"
FUNCTION = api.import_subject
IF_INTERRUPTED = "rerun the same command: finished files are kept"


def run(arguments: Arguments) -> None:
    """Import it and print what was made."""
    done = api.import_subject(**arguments)
    for name, how in done.made.items():
        note(f"made {name}: {how}")
    root = done.subject.files.root
    state = "ready" if done.made else "complete, no file was added"
    note(f"{root} is {state}: 'emotalking validate {root}' checks it")
