"""``emotalking evaluate``."""

from pathlib import Path

from emotalking import api
from emotalking.cli.commands import Arguments
from emotalking.cli.console import announce_device, note

SECTION = "evaluate"
FUNCTION = api.evaluate
IF_INTERRUPTED = "finished scenarios are kept: rerun the same command to continue"
EXAMPLES = """examples:
  emotalking evaluate someone.safetensors someone -o report
  emotalking evaluate someone.safetensors someone -o report --scenarios self --frames 100
  emotalking evaluate someone.safetensors someone -o report --scenarios cross --audio a.wav b.wav --expert personal

Only held-out frames are used, as rendered (before any video encoding). --frames takes the first held-out frames in a
row, because lip sync and jitter need frames that follow each other; --evenly spreads them instead and gives those
metrics up.
"""


def run(arguments: Arguments) -> None:
    """Evaluate, and print the tables."""
    from emotalking.evaluate.tables import paper_tables

    announce_device("evaluating", arguments["device"])
    for titled in paper_tables(api.evaluate(**arguments)):
        print(f"{titled.title}\n\n{titled.table.markdown()}\n{titled.note}\n")
    note(f"see {Path(arguments['output']) / 'report.html'}")
