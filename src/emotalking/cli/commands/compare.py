"""``emotalking compare``."""

from pathlib import Path

from emotalking import api
from emotalking.cli.commands import Arguments
from emotalking.cli.console import announce_device, note

SECTION = "evaluate"
FUNCTION = api.compare
EXAMPLES = """examples:
  emotalking compare someone ours=someone.safetensors TalkingGaussian=output/someone ER-NeRF=trial/results -o table
  emotalking compare someone ours=frames other=out.mp4 truth=recording -o table --as-published
  emotalking compare someone ours=ours.mkv other=other_frames -o table --start 1617 --start other=1620
  emotalking compare someone ours=someone.safetensors other=other_french.mp4 -o table --audio french.wav

A system is an avatar file (rendered here, without loss), a folder of numbered PNG or JPEG frames, a video, the output
folder of TalkingGaussian or ER-NeRF, or the word "recording" (the subject's own frames). Only held-out frames are
scored, and only those that every system shows. The frames of a folder or video follow from their number (as many
as held-out frames, or as the whole clip), by their names, or by --start.
"""


def run(arguments: Arguments) -> None:
    """Compare, and print the tables."""
    from emotalking.evaluate.compare_report import difference_table, main_table, notes_of, published_table

    announce_device("comparing", arguments["device"])
    made = api.compare(**arguments)
    for table in (main_table(made), difference_table(made), published_table(made)):
        if table is not None:
            print(table.markdown())
    for sentence in notes_of(made):
        print(f"- {sentence}")
    note(f"see {Path(arguments['output']) / 'report.html'}")
