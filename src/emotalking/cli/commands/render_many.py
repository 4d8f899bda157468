"""``emotalking render-many``."""

from emotalking import api
from emotalking.cli.commands import Arguments
from emotalking.cli.console import announce_many

SECTION = "use it"
FUNCTION = api.render_many
IF_INTERRUPTED = "rerun the same command: finished videos are kept"
EXAMPLES = """examples:
  emotalking render-many videos.csv -o videos
  emotalking render-many videos.csv -o videos --workers 4 --gpus 0.25
  emotalking render-many videos.json -o videos --address auto

A table such as
  avatar,audio,text,emotion,output
  anna.safetensors,hello.wav,,happy,anna_hello.mp4
  ben.safetensors,,"Good morning!",sad:0.5,ben_morning.mp4

A video that exists and was made of the same row and the same files is kept; a row that cannot be rendered does not stop
the others (exit code 2 at the end).
Without --workers and --address, one after another. --workers 2 runs two at once on this machine, --address joins a Ray
cluster whose machines see the same folders (pip install 'emotalking[cluster]'; docs/many.md).
"""


def run(arguments: Arguments) -> None:
    """Render the videos, and print a table of them."""
    announce_many(api.render_many(**arguments), "rendered")
