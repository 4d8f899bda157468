"""``emotalking reproduce``."""

from pathlib import Path

from emotalking import api
from emotalking.cli.commands import Arguments
from emotalking.cli.console import announce_device, note

SECTION = "evaluate"
FUNCTION = api.reproduce
IF_INTERRUPTED = "finished scenarios are kept: rerun the same command to continue"
EXAMPLES = """examples:
  emotalking reproduce report/report.json -o report2
"""


def run(arguments: Arguments) -> None:
    """Repeat the evaluation, and print the tables and the differences."""
    from emotalking.evaluate.tables import paper_tables

    announce_device("evaluating", arguments["device"])
    made = api.reproduce(**arguments)
    for titled in paper_tables(made.report):
        print(f"{titled.title}\n\n{titled.table.markdown()}\n{titled.note}\n")
    for line in (*made.inputs, *made.metrics):
        print(line)
    print(f"{made.compared - len(made.metrics)} of {made.compared} metrics are the same")
    note(f"see {Path(arguments['output']) / 'report.html'}")
