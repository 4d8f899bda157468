"""``emotalking evaluate``: the paper's three scenarios, every metric, one page."""

import argparse
from pathlib import Path

from emotalking.cli.options import add_device, add_judges

IF_INTERRUPTED = "finished scenarios are kept: run the same command again to go on"

_EXAMPLES = """examples:
  emotalking evaluate someone.safetensors someone -o report
  emotalking evaluate someone.safetensors someone -o report --scenario self --frames 100
  emotalking evaluate someone.safetensors someone -o report --scenario cross --audio a.wav b.wav --expert personal
  emotalking evaluate --again report/report.json -o report2

Only held-out frames are used, on frames as rendered (before any video encoding). The folder gets report.json,
table.md, table.tex, report.html and pictures. --frames takes the first held-out frames in a row, because lip sync and
jitter need frames that follow each other; --evenly spreads them instead and gives those figures up.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.epilog = _EXAMPLES
    parser.add_argument("avatar", type=Path, nargs="?", help="avatar file ('emotalking train')")
    parser.add_argument("subject", type=Path, nargs="?", help="the subject folder that it was trained on")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder for the report")
    parser.add_argument(
        "--scenario",
        choices=("self", "cross", "emotion", "all"),
        default="all",
        help="self-reconstruction, cross-domain audio, emotion-conditioned, or all (default: %(default)s)",
    )
    parser.add_argument(
        "--audio",
        nargs="+",
        default=[],
        metavar="FILE",
        help="speech for cross and emotion (default: the paper's ten sentences by the offline speaker, two voices)",
    )
    parser.add_argument("--frames", type=int, metavar="N", help="at most so many frames of each run (default: all)")
    parser.add_argument("--evenly", action="store_true", help="spread --frames over all held-out frames (self)")
    add_judges(parser)
    parser.add_argument(
        "--again",
        type=Path,
        metavar="JSON",
        help="make a report again from its report.json (its options are used) and compare",
    )
    add_device(parser)


def run(args: argparse.Namespace) -> None:
    """Evaluate, or evaluate again, and print the tables."""
    from emotalking import api
    from emotalking.cli.options import note, say_device
    from emotalking.errors import UserError
    from emotalking.evaluate.paper_tables import paper_tables

    if args.again is None and args.subject is None:
        raise UserError("give the avatar file and the subject folder that it was trained on, or --again report.json")
    device = api.choose_device(args.device)
    say_device("evaluating", device)
    if args.again is not None:
        again = api.evaluate_again(args.again, args.output, avatar=args.avatar, subject=args.subject, device=device)
        report = again.report
    else:
        again = None
        report = api.evaluate(
            args.avatar,
            args.subject,
            args.output,
            scenarios=("self", "cross", "emotion") if args.scenario == "all" else (args.scenario,),
            audio=args.audio,
            frames=args.frames,
            evenly=args.evenly,
            expert=args.expert,
            judge=args.judge,
            lpips=args.lpips,
            device=device,
            say=note,
        )
    for titled in paper_tables(report):
        print(f"{titled.title}\n\n{titled.table.markdown()}\n{titled.note}\n")
    if again is not None:
        for line in (*again.inputs, *again.figures):
            print(line)
        print(f"{again.compared - len(again.figures)} of {again.compared} figures are the same")
    note(f"look at {args.output / 'report.html'}")
