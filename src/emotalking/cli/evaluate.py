"""``emotalking evaluate``: the paper's three scenarios, every metric, one page."""

import argparse
from pathlib import Path

from emotalking.cli.options import add_device, add_evaluation_models

IF_INTERRUPTED = "finished scenarios are kept: run the same command again to go on"

_EXAMPLES = """examples:
  emotalking evaluate someone.safetensors someone -o report
  emotalking evaluate someone.safetensors someone -o report --scenario self --frames 100
  emotalking evaluate someone.safetensors someone -o report --scenario cross --audio a.wav b.wav --expert personal
  emotalking evaluate --reproduce report/report.json -o report2

Only held-out frames are used, on frames as rendered (before any video encoding). The folder gets report.json,
table.md, table.tex, report.html and images. --frames takes the first held-out frames in a row, because lip sync and
jitter need frames that follow each other; --evenly spreads them instead and gives those metrics up.
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
    add_evaluation_models(parser)
    parser.add_argument(
        "--reproduce",
        "--again",
        type=Path,
        metavar="JSON",
        help="reproduce an earlier report from its report.json (with its options) and compare the metrics",
    )
    add_device(parser)


def run(args: argparse.Namespace) -> None:
    """Evaluate, or reproduce a report, and print the tables."""
    from emotalking import api
    from emotalking.cli.options import note, say_device
    from emotalking.errors import UserError
    from emotalking.evaluate.tables import paper_tables

    if args.reproduce is None and args.subject is None:
        raise UserError(
            "give the avatar file and the subject folder that it was trained on, or --reproduce report.json"
        )
    device = api.choose_device(args.device)
    say_device("evaluating", device)
    if args.reproduce is not None:
        made = api.reproduce(args.reproduce, args.output, avatar=args.avatar, subject=args.subject, device=device)
        report = made.report
    else:
        made = None
        report = api.evaluate(
            args.avatar,
            args.subject,
            args.output,
            scenarios=("self", "cross", "emotion") if args.scenario == "all" else (args.scenario,),
            audio=args.audio,
            frames=args.frames,
            evenly=args.evenly,
            expert=args.expert,
            emotion_model=args.emotion_model,
            lpips=args.lpips,
            device=device,
            log=note,
        )
    for titled in paper_tables(report):
        print(f"{titled.title}\n\n{titled.table.markdown()}\n{titled.note}\n")
    if made is not None:
        for line in (*made.inputs, *made.metrics):
            print(line)
        print(f"{made.compared - len(made.metrics)} of {made.compared} metrics are the same")
    note(f"look at {args.output / 'report.html'}")
