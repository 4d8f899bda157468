"""``emotalking demo``."""

from emotalking import api
from emotalking.cli.commands import Arguments
from emotalking.cli.console import note

SECTION = "make an avatar"
FUNCTION = api.demo
IF_INTERRUPTED = "rerun the same command: finished steps and the last checkpoint are used"


def run(arguments: Arguments) -> None:
    """Run it and print its metrics."""
    from emotalking.testing.demo import table

    made = api.demo(**arguments)
    print(table(made.report))
    note(f"see {made.sheet} and {made.video} (with sound)")
