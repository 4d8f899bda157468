"""``emotalking prepare``."""

from emotalking import api
from emotalking.cli.commands import Arguments
from emotalking.cli.console import note

SECTION = "make an avatar"
FUNCTION = api.prepare
IF_INTERRUPTED = "rerun the same command to continue from the last finished step"
EXAMPLES = """examples:
  emotalking prepare clip.mp4 -o someone
  emotalking prepare clip.mp4 -o someone --part 12.5,80 --size 256 --preview
  emotalking prepare clip.mp4 -o someone --expressions happy.mp4 angry.mp4
  emotalking prepare clip.mp4 -o someone --parsing bisenet --emotion-model emonet --normals network
"""


def run(arguments: Arguments, *, preview: bool = False) -> None:
    """Prepare the clip.

    Args:
        preview: also write preview.mp4 and preview.html: landmarks, masks, curves.
    """
    folder = api.prepare(**arguments).files.root
    if preview:
        video, page = api.preview(folder)
        note(f"see {video} and {page}")
    note(f"{folder} is ready: 'emotalking train {folder} -o AVATAR'")
