"""``emotalking ablate``: train and score the paper's ablations of one subject."""

import argparse
from pathlib import Path
from typing import Any

from emotalking.cli.options import add_devices, add_evaluation_models, add_settings

IF_INTERRUPTED = "run the same command again: what is finished is kept, what was begun goes on"

_EXAMPLES = """examples:
  emotalking ablate someone -o ablation
  emotalking ablate someone -o ablation --preset tiny --only combined,no_emotion,full --frames 50
  emotalking ablate someone -o ablation --devices cuda:0,cuda:1

Rows: no_normal (without the normal loss), no_sync (without the sync loss), combined (one face network takes audio,
action units, valence and arousal), no_emotion (without the emotion branch), full. The full model has everything on that
a chosen row takes away. Each variant gets an avatar file and a folder with its evaluation; the ablation's table is in
table.md, table.tex, ablation.json and report.html. Lip sync is measured by SyncNet if its checkpoint is there, else by
a personal expert made for this, which is another than the one that trains.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.epilog = _EXAMPLES
    parser.add_argument("subject", type=Path, help="subject folder ('emotalking prepare')")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder for everything")
    parser.add_argument(
        "--preset", choices=("tiny", "fast", "paper"), default="fast", help="of every variant (default: %(default)s)"
    )
    add_settings(parser, "every variant")
    parser.add_argument("--only", metavar="ROWS", help="these rows, separated by commas (default: all)")
    parser.add_argument("--frames", type=int, metavar="N", help="score at most so many frames of each run")
    add_devices(parser, "variant")
    parser.add_argument("--expert-steps", type=int, metavar="N", help="training steps of the personal sync experts")
    add_evaluation_models(parser)


def run(args: argparse.Namespace) -> None:
    """Train, score, and print the table."""
    from emotalking import api
    from emotalking.cli.options import note
    from emotalking.evaluate.ablation_report import ablation_table, notes_of

    names = ("preset", "frames", "expert", "emotion_model", "lpips", "expert_steps")
    chosen: dict[str, Any] = {name: getattr(args, name) for name in names} | {"settings": tuple(args.settings)}
    if args.only is not None:
        chosen["variants"] = tuple(word.strip() for word in args.only.split(","))
    made, options = api.ablate(args.subject, args.output, devices=args.devices, log=note, **chosen)
    print(ablation_table(made).markdown())
    for sentence in notes_of(made, options):
        print(f"- {sentence}")
    note(f"look at {args.output / 'report.html'}")
