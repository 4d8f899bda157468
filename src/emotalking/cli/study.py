"""``emotalking study``: a blind side-by-side user study with the paper's three questions."""

import argparse
from pathlib import Path

IF_INTERRUPTED = "the server has stopped; stored answers are whole"

_EXAMPLES = """examples:
  emotalking study -o study ours=a1.mp4 rival=b1.mp4 ours=a2.mp4 rival=b2.mp4 --emotion happy --emotion angry
  emotalking study -o study --serve
  emotalking study -o study --results
  emotalking study -o study --results answers_1f2e3d4c.csv answers_5b6a7988.csv

The n-th clip of every system makes group n, shown side by side in a random order. Hand out the folder "page" alone
(or --embed, which makes it one file): participants save their answers as a CSV file and send it. With --serve a server
on this machine shows the page and collects the answers in answers.csv. key.json tells which clip is whose.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.epilog = _EXAMPLES
    parser.add_argument("clips", nargs="*", metavar="NAME=VIDEO", help="clips with sound, .mp4 or .webm")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder of the study")
    parser.add_argument(
        "--emotion", action="append", default=[], metavar="TEXT", help="what a group should show; once for each group"
    )
    parser.add_argument("--title", default="Which video is better?", help="heading of the page (default: %(default)s)")
    parser.add_argument("--embed", action="store_true", help="put the clips into the page, which is then one file")
    parser.add_argument("--serve", action="store_true", help="show the page on this machine and collect answers")
    parser.add_argument("--port", type=int, default=8000, help="of --serve (default: %(default)s)")
    parser.add_argument(
        "--results",
        nargs="*",
        type=Path,
        metavar="CSV",
        help="print what was preferred, from these files of answers (default: the study's answers.csv)",
    )


def run(args: argparse.Namespace) -> None:
    """Make a study, serve it, or tell its results."""
    from emotalking.cli.options import note
    from emotalking.errors import UserError
    from emotalking.evaluate.study import KEY, PAGE, make_study, read_results

    if args.results is not None and (args.clips or args.serve):
        raise UserError("--results stands alone: make or serve the study in a command of its own.")
    if args.results is not None:
        results = read_results(args.output, args.results)
        print(results.table.markdown())
        print(results.summary)
        return
    if not args.clips and not args.serve:
        raise UserError("give clips as NAME=VIDEO, or --serve or --results for a study that is there.")
    if args.clips:
        made = make_study(clips_of(args.clips), args.output, emotions=args.emotion, title=args.title, embed=args.embed)
        note(
            f"{args.output / PAGE}: {len(made.groups)} groups of {len(made.systems)} clips; keep {args.output / KEY} to"
            " yourself"
        )
    if args.serve:
        from emotalking.evaluate.study_server import StudyServer

        with StudyServer(args.output, args.port) as server:
            note(f"open {server.address}; answers go to {server.answers}; stop with Ctrl+C")
            server.serve_forever()


def clips_of(words: list[str]) -> dict[str, list[Path]]:
    """NAME=VIDEO words by name, in their order.

    Raises:
        UserError: one is not of this form.
    """
    from emotalking.errors import UserError

    clips: dict[str, list[Path]] = {}
    for word in words:
        name, separator, path = word.partition("=")
        if not separator or not name.strip() or not path:
            raise UserError(f"'{word}' is not of the form NAME=VIDEO, such as ours=clip.mp4.")
        clips.setdefault(name.strip(), []).append(Path(path))
    return clips
