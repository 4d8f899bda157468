"""``emotalking tts``."""

from emotalking import api
from emotalking.cli.commands import Arguments
from emotalking.cli.console import note
from emotalking.errors import InputError

SECTION = "use it"
FUNCTION = api.synthesize
EXAMPLES = """examples:
  emotalking tts "Good morning!" -o morning.wav --times morning.TextGrid
  emotalking tts "Guten Morgen!" --language de --voice f2 --rate 0.9 -o morgen.wav
"""


def run(arguments: Arguments) -> None:
    """Synthesize the text."""
    if arguments["output"] is None:
        raise InputError("nothing to write: give a sound file with -o, such as -o speech.wav.")
    utterance = api.synthesize(**arguments)
    outputs = (arguments[name] for name in ("output", "times", "emotion_file"))
    where = " and ".join(str(place) for place in outputs if place is not None)
    counts = (
        f", {len(utterance.words)} words, {len(utterance.phonemes)} phonemes"
        if utterance.words and utterance.phonemes
        else ""
    )
    note(f"{where}: {utterance.seconds:.2f} s in the voice {utterance.voice}{counts}")
