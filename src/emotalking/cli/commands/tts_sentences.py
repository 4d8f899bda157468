"""``emotalking tts-sentences``."""

from typing import Any

from emotalking import api

SECTION = "use it"
FUNCTION = api.synthesize_sentences
EXAMPLES = """examples:
  emotalking tts-sentences -o sentences --language de
  emotalking tts-sentences -o sentences --voices m3,f2 --rates 1,1.2 --takes 2
"""


def run(arguments: dict[str, Any]) -> None:
    """Synthesize the set."""
    from emotalking.cli.console import note

    utterances = api.synthesize_sentences(**arguments)
    seconds = sum(one.seconds for one in utterances)
    summary = f"{len(utterances)} sentences, {seconds:.1f} s, each with its words (.txt) and times (.json)"
    note(f"{arguments['output']}: {summary}")
