"""``emotalking check``: suitability of a clip for an avatar."""

import argparse
import json
from pathlib import Path

IF_INTERRUPTED = "no page was written"


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("clip", type=Path, help="video of one person talking to the camera, with sound")
    parser.add_argument(
        "--page", type=Path, metavar="HTML", help="page to write (default: CLIP.check.html beside the clip)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measures as JSON, too")


def run(args: argparse.Namespace) -> None:
    """Check the clip; an unusable one ends like any other input that cannot be used, with its page written."""
    import sys
    from dataclasses import asdict

    from emotalking import api
    from emotalking.cli.options import note
    from emotalking.errors import InputError
    from emotalking.io.files import write_bytes
    from emotalking.preprocess.check.page import page_beside, summary_lines, verdict_line, write_page

    footage = api.check(args.clip)
    # The verdict comes first: it is not lost where the page cannot be written.
    sys.stdout.write("\n".join(summary_lines(footage)) + "\n")
    sys.stdout.flush()
    page = args.page or page_beside(args.clip)
    write_page(footage, page)
    if args.json is not None:
        facts = asdict(footage)
        del facts["stills"]
        write_bytes(args.json, (json.dumps(facts, indent=2) + "\n").encode())
    if footage.verdict == "unusable":
        raise InputError(f"{verdict_line(footage)} See {page}")
    note(f"{page} shows why")
