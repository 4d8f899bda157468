"""``emotalking compare``: anyone's frames of a subject in one table."""

import argparse
from pathlib import Path

from emotalking.cli.options import add_device, add_evaluation_models

IF_INTERRUPTED = "nothing was written"

_EXAMPLES = """examples:
  emotalking compare someone ours=someone.safetensors TalkingGaussian=output/someone ER-NeRF=trial/results -o table
  emotalking compare someone ours=frames rival=out.mp4 truth=recording -o table --as-published
  emotalking compare someone ours=ours.mkv rival=rival_frames -o table --start 1617 --start rival=1620
  emotalking compare someone ours=someone.safetensors rival=rival_french.mp4 -o table --audio french.wav

A system is NAME=PATH: an avatar file (rendered here, without loss), a folder of numbered PNG or JPEG frames, a video,
the output folder of TalkingGaussian or ER-NeRF, or the word "recording" (the subject's own frames). Only held-out
frames are scored, and only those that every system shows. Which frames a folder or video shows is told by their
number (as many as held-out frames, or as the whole clip), by their names, or by --start. The first system is what the
others are tested against. The folder gets comparison.json, table.md, table.tex and report.html.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.epilog = _EXAMPLES
    parser.add_argument("subject", type=Path, help="subject folder that holds the recorded frames")
    parser.add_argument("systems", nargs="+", metavar="NAME=PATH", help="what to compare")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder for the report")
    parser.add_argument(
        "--start",
        action="append",
        default=[],
        metavar="[NAME=]FRAME",
        help="the subject's frame that the first frame shows, of all folders and videos or of one; may be repeated",
    )
    parser.add_argument("--frames", type=int, metavar="N", help="score at most so many frames, the first ones")
    parser.add_argument(
        "--as-published",
        action="store_true",
        help="also measure as TalkingGaussian's script does, on re-encoded video, and show the difference",
    )
    parser.add_argument(
        "--audio",
        type=Path,
        metavar="FILE",
        help="a sound that all systems say from their first frame on and nobody was recorded saying: only what needs no"
        " recorded frames is measured",
    )
    parser.add_argument("--va", metavar="V,A", help="valence and arousal that all systems should show with --audio")
    add_evaluation_models(parser)
    add_device(parser)


def run(args: argparse.Namespace) -> None:
    """Compare, and print the table."""
    from emotalking import api
    from emotalking.cli.options import note, say_device
    from emotalking.emotion.tracks import parse_pair
    from emotalking.evaluate.compare_report import difference_table, main_table, notes_of, published_table

    device = api.choose_device(args.device)
    say_device("comparing", device)
    made = api.compare(
        args.subject,
        dict_of(args.systems),
        args.output,
        start=starts_of(args.start),
        frames=args.frames,
        as_published=args.as_published,
        audio=args.audio,
        va=None if args.va is None else parse_pair(args.va),
        expert=args.expert,
        emotion_model=args.emotion_model,
        lpips=args.lpips,
        device=device,
    )
    for table in (main_table(made), difference_table(made), published_table(made)):
        if table is not None:
            print(table.markdown())
    for sentence in notes_of(made):
        print(f"- {sentence}")
    note(f"look at {args.output / 'report.html'}")


def dict_of(words: list[str]) -> dict[str, str]:
    """NAME=PATH pairs.

    Raises:
        UserError: one is no pair, or a name comes twice.
    """
    from emotalking.errors import UserError

    pairs: dict[str, str] = {}
    for word in words:
        name, separator, path = word.partition("=")
        if not separator or not name.strip() or not path:
            raise UserError(f"'{word}' is not of the form NAME=PATH, such as ours=someone.safetensors.")
        if name.strip() in pairs:
            raise UserError(f"two systems are called {name.strip()}: give each its own name.")
        pairs[name.strip()] = path
    return pairs


def starts_of(words: list[str]) -> dict[str, int]:
    """``[NAME=]FRAME`` as a dictionary; the empty name stands for all.

    Raises:
        UserError: no frame number.
    """
    from emotalking.errors import UserError

    starts: dict[str, int] = {}
    for word in words:
        name, _, number = word.rpartition("=")
        if not number.strip().isdecimal():
            raise UserError(f"--start {word} is no frame number: give one such as 1617, or NAME=1617.")
        starts[name.strip()] = int(number)
    return starts
