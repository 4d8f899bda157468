"""Choice of a text-to-speech back end."""

from pathlib import Path

from emotalking.errors import UserError
from emotalking.tts.base import Synthesizer
from emotalking.tts.espeak import Espeak
from emotalking.tts.google import Gtts
from emotalking.tts.recordings import Recordings


def open_synthesizer(which: str | Path) -> Synthesizer:
    """The back end called ``which``.

    Args:
        which: "espeak" (works without a network), "gtts" (needs one), or a folder of sound files.

    Raises:
        UserError: it is not installed, or there is no such folder.
    """
    if which == "espeak":
        return Espeak()
    if which == "gtts":
        return Gtts()
    if Path(which).is_dir():
        return Recordings(which)
    raise UserError(f"there is no speech synthesizer '{which}': use espeak, gtts, or a folder of sound files.")
