"""``emotalking tts``."""

from typing import Any

from emotalking import api

SECTION = "use it"
FUNCTION = api.synthesize
EXAMPLES = """examples:
  emotalking tts "Good morning!" -o morning.wav --times morning.TextGrid
  emotalking tts "Guten Morgen!" --language de --voice f2 --rate 0.9 -o morgen.wav
"""


def run(arguments: dict[str, Any]) -> None:
    """Synthesize the text."""
    from emotalking.cli.console import note
    from emotalking.errors import InputError

    if arguments["output"] is None:
        raise InputError("nothing to write: give a sound file with -o, such as -o speech.wav.")
    said = api.synthesize(**arguments)
    where = " and ".join(str(arguments[name]) for name in ("output", "times") if arguments[name] is not None)
    known = f", {len(said.words)} words, {len(said.phonemes)} phonemes" if said.words and said.phonemes else ""
    note(f"{where}: {said.seconds:.2f} s in the voice {said.voice}{known}")
