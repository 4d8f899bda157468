"""``emotalking study make``."""

from pathlib import Path

from emotalking import api
from emotalking.cli.commands import Arguments
from emotalking.cli.console import note

SECTION = "evaluate"
FUNCTION = api.make_study
EXAMPLES = """examples:
  emotalking study make ours=a1.mp4 other=b1.mp4 ours=a2.mp4 other=b2.mp4 -o study --emotions happy --emotions angry

The n-th clips of all systems make group n, shown side by side in a random order. Hand out the folder "page" alone (or
use --embed, which makes it one file): participants save their answers as a .csv file and send it. 'emotalking study
serve' shows the page on this machine and collects the answers. key.json maps the clips to the systems: keep it private.
"""


def run(arguments: Arguments) -> None:
    """Make the study."""
    from emotalking.evaluate.study import KEY, PAGE

    made, folder = api.make_study(**arguments), Path(arguments["output"])
    note(f"{folder / PAGE}: {len(made.groups)} groups of {len(made.systems)} clips; keep {folder / KEY} to yourself")
