"""``emotalking ablate``."""

from pathlib import Path

from emotalking import api
from emotalking.cli.commands import Arguments
from emotalking.cli.console import note

SECTION = "evaluate"
FUNCTION = api.ablate
IF_INTERRUPTED = "rerun the same command: finished variants are kept, unfinished ones continue"
EXAMPLES = """examples:
  emotalking ablate someone -o ablation
  emotalking ablate someone -o ablation --preset tiny --variants combined,no_emotion,full --frames 50
  emotalking ablate someone -o ablation --workers 2

Variants: no_normal (without the normal loss), no_sync (without the sync loss), combined (one face network takes audio,
action units, valence and arousal), no_emotion (without the emotion branch), full. The full model has everything on that
a chosen variant removes. Lip sync is measured by SyncNet if its checkpoint is there, else by a personal expert made
for this, which is another than the one that trains.
Without --workers and --address, one after another. --workers 2 runs two at once on this machine, --address joins a Ray
cluster whose machines see the same folders (pip install 'emotalking[cluster]'; docs/many.md).
"""


def run(arguments: Arguments) -> None:
    """Train, evaluate, and print the table."""
    from emotalking.evaluate.ablation import ablation_table, notes_of

    made = api.ablate(**arguments)
    print(ablation_table(made).markdown())
    for sentence in notes_of(made, arguments["config"]):
        print(f"- {sentence}")
    note(f"see {Path(arguments['output']) / 'report.html'}")
