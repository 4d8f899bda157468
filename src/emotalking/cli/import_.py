"""``emotalking import``: complete a folder of another program."""

import argparse
from pathlib import Path

IF_INTERRUPTED = "run the same command again: what was made is kept"


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("folder", type=Path, help="subject folder of TalkingGaussian's or ER-NeRF's scripts")
    parser.add_argument(
        "--out", type=Path, metavar="NEW", help="new folder with links to theirs (default: new files beside theirs)"
    )
    parser.add_argument(
        "--clip", type=Path, help="the video that it was made from, for its sound where that is missing"
    )


def run(args: argparse.Namespace) -> None:
    """Import it and say what was made."""
    from emotalking import api
    from emotalking.cli.options import note

    done = api.import_folder(args.folder, args.out, args.clip)
    for name, how in done.made.items():
        note(f"made {name}: {how}")
    root = done.subject.files.root
    state = "ready" if done.made else "complete, nothing was made"
    note(f"{root} is {state}: 'emotalking validate {root}' looks it over")
